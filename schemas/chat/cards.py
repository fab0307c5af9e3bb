"""GPUs: what cards could do at their best, by their vendors' data sheets, and the names of those of this machine."""

import os
from typing import NamedTuple

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Card(NamedTuple):
    """``half``: FLOP/s of the tensor cores in bfloat16, or in float16 where ``bfloat16`` is false, dense, added up in
    float32; ``single``: in float32, without TF32; both as ``source`` has them, or half of what it has with sparsity.
    They are what the units do at the highest clock that the card has for them.

    ``memory``: bytes, by the vendor's data sheet, of the largest that there is of the name: an A100 has 40 GB or 80, a
    V100 16 or 32, a GH200 96 or 144, a B200 180 to 192 by the system that it is in.
    """

    half: float
    single: float
    memory: int
    source: str
    bfloat16: bool = True


def _card(half: float, single: float, memory: int, source: str, bfloat16: bool = True) -> Card:
    """Of TFLOP/s and GB, which are powers of 1,024 in those sheets: the driver of an H100 of 80 GB shows 81,559 MiB."""
    return Card(half * 1e12, single * 1e12, memory << 30, source, bfloat16)


_SPARSE = "NVIDIA's data sheet {}, whose {} TFLOPS are with sparsity"
_HOPPER = "NVIDIA's white paper on the Hopper architecture"
_VOLTA = "NVIDIA's data sheet V100"
CARDS = {
    "A10": _card(125, 31.2, 24, "NVIDIA's data sheet A10"),
    "A10G": _card(70, 35, 24, "NVIDIA's data sheet A10G"),
    "A30": _card(165, 10.3, 24, "NVIDIA's data sheet A30"),
    "A40": _card(149.7, 37.4, 48, "NVIDIA's data sheet A40"),
    "A100": _card(312, 19.5, 80, "NVIDIA's data sheet A100"),
    "A800": _card(312, 19.5, 80, "NVIDIA's data sheet A800"),
    "H100": _card(989.4, 66.9, 80, _HOPPER),
    "H100-NVL": _card(835.5, 60, 94, _SPARSE.format("H100, NVL", "1,671")),
    "H100-PCIe": _card(756, 51.2, 80, _HOPPER),
    "H800": _card(989.5, 67, 80, _SPARSE.format("H800, SXM", "1,979")),
    "H800-PCIe": _card(756.5, 51, 80, _SPARSE.format("H800, PCIe", "1,513")),
    "H200": _card(989.5, 67, 141, _SPARSE.format("H200, SXM", "1,979")),
    "H200-NVL": _card(835.5, 60, 141, _SPARSE.format("H200, NVL", "1,671")),
    "GH200": _card(989.5, 67, 144, _SPARSE.format("GH200", "1,979")),
    "B200": _card(2250, 75, 192, _SPARSE.format("Blackwell, HGX B200", "4,500")),
    "L4": _card(121, 30.3, 24, _SPARSE.format("L4", "242")),
    "L40": _card(181.05, 90.5, 48, "NVIDIA's data sheet L40"),
    # its 362.05 without sparsity are no half of its 733, and no double of its 183 in TF32, as the latter are
    "L40S": _card(366.5, 91.6, 48, _SPARSE.format("L40S", "733")),
    "RTX-4090": _card(165.2, 82.6, 24, "NVIDIA's white paper on the Ada architecture, appendix A"),
    "V100": _card(125, 15.7, 32, _VOLTA, bfloat16=False),
    "V100-PCIe": _card(112, 14, 32, _VOLTA, bfloat16=False),
    "T4": _card(65, 8.1, 16, "NVIDIA's data sheet T4", bfloat16=False),
    "MI300X": _card(1307.4, 163.4, 192, "AMD's data sheet MI300X"),
}
"""By the name that people have for it; variants of one name that differ in their peak have their own."""

_ANOTHER = {"mig", "laptop", "max", "d"}
"""Words of a device's name that make it a part of a card, or a slower one of the same name."""


def card_named(device: str) -> str | None:
    """The card that a driver calls ``device``, such as "NVIDIA A100-SXM4-80GB"; None if it is none of these."""
    words = _words(device)
    there = [name for name in CARDS if _words(name) <= words]
    return max(there, key=lambda name: len(_words(name)), default=None) if not words & _ANOTHER else None


def _words(name: str) -> set[str]:
    return {*name.lower().replace("-", " ").split()}


def count() -> int:
    """How many GPUs torch can use, of those that ``CUDA_VISIBLE_DEVICES`` names; CUDA is not started.

    torch, and not nvidia-ml-py: it asks NVML as well, is there wherever a model is loaded, and counts none where it was
    built without CUDA.
    """
    import torch

    return torch.cuda.device_count()


def may_use() -> bool:
    """Whether torch was built for CUDA."""
    import torch

    return torch.version.cuda is not None


def visible() -> tuple[str, ...]:
    """The GPUs that processes may be given: those that the user named, numbers, UUIDs or MIG instances, or all."""
    named = os.environ.get(VISIBLE)
    listed = tuple(name.strip() for name in named.split(",")) if named else ()
    if listed and all(name.startswith("MIG-") for name in listed):
        # a process sees one instance, the first; and torch would start CUDA to count them, which settles that for good
        return listed if may_use() else ()
    there = count()
    return tuple(map(str, range(there))) if named is None else listed[:there]
