"""Which card a driver's name is, and which peak goes with it."""

import re

import pytest
import torch
from curricle.schemas.chat.cards import CARDS, card_named
from curricle.train.model.peak import peak_flops


@pytest.mark.parametrize(
    ("device", "card"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100-PCIE-40GB", "A100"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200-NVL"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40", "L40"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("Tesla V100-PCIE-16GB", "V100-PCIe"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("AMD Instinct MI300X", "MI300X"),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA T400 4GB", None),
        ("NVIDIA GB200", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", None),
    ],
)
def test_the_card_of_a_device(device, card, monkeypatch):
    assert card_named(device) == card
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: device)
    assert peak_flops(torch.device("cuda"), None) == (CARDS[card].half if card else None)


def test_dense_peaks():
    """Twice as much would be with sparsity; without tensor cores it is far less."""
    assert (CARDS["A100"].half, CARDS["H100"].half, CARDS["L4"].half) == (312e12, 989.4e12, 121e12)
    assert all(card.single < card.half for card in CARDS.values())
    assert {name for name, card in CARDS.items() if not card.bfloat16} == {"V100", "V100-PCIe", "T4"}


def test_the_memory_of_a_card():
    """GB as on its data sheet, and the largest of a name."""
    sizes = {name: card.memory / 2**30 for name, card in CARDS.items()}
    assert sizes == {
        **dict.fromkeys(["A10", "A10G", "A30", "L4", "RTX-4090"], 24),
        **dict.fromkeys(["A40", "L40", "L40S"], 48),
        **dict.fromkeys(["A100", "A800", "H100", "H100-PCIe", "H800", "H800-PCIe"], 80),
        **dict.fromkeys(["H200", "H200-NVL"], 141),
        **dict.fromkeys(["V100", "V100-PCIe"], 32),
        **{"H100-NVL": 94, "GH200": 144, "B200": 192, "T4": 16, "MI300X": 192},
    }


def test_peaks_are_half_of_those_with_sparsity():
    stated = {name: re.search(r" ([\d,]+) TFLOPS are with sparsity", card.source) for name, card in CARDS.items()}
    double = {name: float(figure[1].replace(",", "")) * 1e12 for name, figure in stated.items() if figure}
    assert len(double) == 9 and double == {name: 2 * CARDS[name].half for name in double}


def test_a_core_does_so_many_operations_at_once():
    """In half precision a power of two of those in float32, in a clock that is the same for both. Hopper's and
    Blackwell's tensor cores do 16 and 32 times as many, in a slower clock: at 1.83 of 1.98 GHz, and so on.
    """
    times = {name: card.half / card.single for name, card in CARDS.items()}
    slower = {name for name in CARDS if re.match("H|GH|B", name)}
    whole = {2: {"A10G", "L40", "RTX-4090"}, 16: {"A30", "A100", "A800"}, 8: {"V100", "V100-PCIe", "T4", "MI300X"}}
    whole[4] = {*CARDS} - slower - set().union(*whole.values())
    assert {name: times[name] for each in whole.values() for name in each} == {
        name: pytest.approx(count, rel=0.005) for count, names in whole.items() for name in names
    }
    for name in slower:
        assert 0.86 < times[name] / (32 if name == "B200" else 16) < 0.95, name
