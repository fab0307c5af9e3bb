"""What a device could do at its best, by its data sheet."""

import torch
from curricle.schemas.chat.cards import CARDS, card_named


def peak_flops(device: torch.device, declared_tflops: float | None) -> float | None:
    """FLOP/s that one device could do, in dense bfloat16, or float16 where there is none: as given, or from its data
    sheet; None where neither is known.
    """
    if declared_tflops:
        return declared_tflops * 1e12
    name = card_named(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return CARDS[name].half if name else None
