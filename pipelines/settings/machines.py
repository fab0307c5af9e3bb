"""The machines that a dry run reckons with: options of ``curricle score --dry-run``, and cards by name."""

from dataclasses import dataclass, fields
from typing import NamedTuple

from curricle.schemas.common.config import nearest, option
from curricle.schemas.common.dry_run import DryRunSettings
from curricle.schemas.common.errors import UsageError


class Card(NamedTuple):
    """``peak``: dense bf16 FLOP/s of the tensor cores, without sparsity, as ``source`` has it."""

    peak: float
    source: str


_HOPPER = "NVIDIA's data sheet {}, whose 1,979 TFLOPS are with sparsity"
CARDS = {
    "A10": Card(125e12, "NVIDIA's data sheet A10"),
    "A30": Card(165e12, "NVIDIA's data sheet A30"),
    "A40": Card(149.7e12, "NVIDIA's data sheet A40"),
    "A100": Card(312e12, "NVIDIA's data sheet A100"),
    "H100": Card(989e12, _HOPPER.format("H100, SXM")),
    "H100-NVL": Card(835e12, "NVIDIA's data sheet H100, NVL, whose 1,671 TFLOPS are with sparsity"),
    "H100-PCIe": Card(756e12, "NVIDIA's data sheet H100, PCIe, whose 1,513 TFLOPS are with sparsity"),
    "H200": Card(989e12, _HOPPER.format("H200, SXM")),
    "B200": Card(2250e12, "NVIDIA's data sheet DGX B200, of whose 8 GPUs the 36 PFLOPS of FP16 are with sparsity"),
    "L4": Card(121e12, "NVIDIA's data sheet L4, whose 242 TFLOPS are with sparsity"),
    "L40S": Card(362.05e12, "NVIDIA's data sheet L40S"),
    "RTX-4090": Card(165.2e12, "NVIDIA's white paper on the Ada architecture, appendix A, with FP32 accumulation"),
}
"""By the name that people have for it; variants of one name that differ in their peak have their own."""

MFU = 0.4
"""The share of the peak that is assumed where none is stated. Large matrices reach more, small models less."""


@dataclass(frozen=True)
class MachinesSettings(DryRunSettings):
    machines: int | None = option("of a dry run: how many machines, alike, are to do the work", None, at_least=1)
    device: str | None = option(f"of a dry run: the GPU of a machine: {', '.join(CARDS)}", None)
    gpus_per_machine: int | None = option("of a dry run: how many of it a machine has (1)", None, at_least=1)
    tokens_per_second: float | None = option(
        "of a dry run: what one GPU, or one machine without, was measured to score, as `curricle status` shows it",
        None,
        above=0,
    )
    mfu: float | None = option(
        f"of a dry run: the share of the GPU's bf16 peak that is assumed where no rate is stated ({MFU})",
        None,
        above=0,
        at_most=1,
    )
    price_per_hour: float | None = option("of a dry run: what one machine costs an hour", None, at_least=0)

    @property
    def named(self) -> bool:
        """Whether anything is asked about machines."""
        return any(getattr(self, item.name) is not None for item in fields(self) if item.name != "dry_run")

    def check(self) -> None:
        """UsageError for options of machines without a dry run, or that say nothing together, or of no known card."""
        for item in fields(self):
            if not self.dry_run and item.name != "dry_run" and getattr(self, item.name) is not None:
                flag = item.name.replace("_", "-")
                remedy = "add --dry-run to reckon with it; who does the work is said by --engine and --workers"
                raise UsageError(f"--{flag} is for --dry-run alone, and starts no machine", remedy=remedy)
        if self.device and self.card is None and self.tokens_per_second is None:
            raise UsageError(
                f"--device is {self.device!r}, of which no peak is known",
                remedy=f"{nearest(self.device, CARDS)}; or state the rate that was measured, with --tokens-per-second",
            )
        if self.mfu and (self.tokens_per_second or not self.device):
            raise UsageError(
                "--mfu is a share of the peak of --device, where no rate is stated",
                remedy="leave it out, or name a device and no --tokens-per-second",
            )
        if self.gpus_per_machine and not self.device:
            raise UsageError("--gpus-per-machine without --device", remedy="name the device, such as H100")

    @property
    def device_name(self) -> str:
        """The device as the table of cards writes it."""
        return next((name for name in CARDS if name.lower() == (self.device or "").lower()), self.device or "")

    @property
    def card(self) -> Card | None:
        return CARDS.get(self.device_name)
