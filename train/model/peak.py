"""What a device could do at its best, by its data sheet."""

import torch

PEAK_TFLOPS = {
    "H200": 989.0,
    "H100": 989.0,
    "H800": 989.0,
    "B200": 2250.0,
    "GH200": 989.0,
    "A100": 312.0,
    "A800": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10G": 70.0,
    "A10": 125.0,
    "V100": 125.0,
    "T4": 65.0,
    "MI300X": 1307.0,
}
"""Dense bfloat16 (float16 where there is none) peaks in the vendors' data sheets, by part of the device's name."""


def peak_flops(device: torch.device, declared_tflops: float | None) -> float | None:
    """FLOP/s that one device could do: as given, or from its data sheet; None where neither is known."""
    if declared_tflops:
        return declared_tflops * 1e12
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for part in sorted(PEAK_TFLOPS, key=len, reverse=True):
            if part in name:
                return PEAK_TFLOPS[part] * 1e12
    return None
