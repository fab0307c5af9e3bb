"""AdamW, and learning rates as a function of how much of the budget is spent.

A schedule by budget rather than by step ends where training ends, whatever the curriculum and its batches, and gives
every arm of a comparison the same learning rate at the same budget. It has no state: a resume needs only the budget
spent.
"""

import math

import torch
from curricle.train.settings import OptimizerSettings


def build_optimizer(model: torch.nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over what is trained; weight decay on matrices alone, not on norms and biases."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in trained if each.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [each for each in trained if each.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=trained[0].device.type in ("cpu", "cuda"),
    )


def learning_rate(settings: OptimizerSettings, spent: float) -> float:
    """The learning rate where this share of the budget, in [0, 1], is spent."""
    if spent < settings.warmup:
        return settings.lr * spent / settings.warmup
    if settings.schedule == "wsd":  # warm up, stay, decay (Hu et al. 2024, MiniCPM), here with a linear end
        share = max(0.0, (spent - (1 - settings.decay)) / settings.decay)
    else:
        share = (spent - settings.warmup) / (1 - settings.warmup)
    left = 1 - min(1.0, share)
    match settings.schedule:
        case "constant":
            factor = 1.0
        case "cosine":
            factor = (1 - math.cos(math.pi * left)) / 2
        case "rex":  # reflected exponential (Chen, Wolfe and Kyrillidis 2022)
            factor = left / (0.5 + 0.5 * left)
        case _:
            factor = left
    return settings.lr * (settings.floor + (1 - settings.floor) * factor)


def clip(model: torch.nn.Module, most: float) -> torch.Tensor:
    """Scale the gradients so that their norm is at most ``most`` (0: any), and return what it was."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(trained, most or float("inf"))
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # sharded by FSDP
