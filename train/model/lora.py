"""Adapters."""

from typing import Any

import torch
from curricle.schemas.common.errors import UsageError
from curricle.train.settings import LoraSettings
from transformers import (
    PreTrainedModel,
)


def add_adapters(model: PreTrainedModel, settings: LoraSettings) -> None:
    """Put LoRA adapters into the linear modules, and freeze everything else."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UsageError("LoRA needs peft, which is not installed", remedy="pip install peft") from error
    targets: Any = settings.targets[0] if settings.targets == ("all-linear",) else list(settings.targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=targets,
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise UsageError(str(error), remedy="name linear modules of the model with --lora.targets") from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def merged(model: PreTrainedModel, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict without adapters: W + B A (alpha / rank) where a module has one. The model itself is not touched."""
    plain = {name: weight for name, weight in weights.items() if "lora_" not in name and ".base_layer." not in name}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            for kind in ("weight", "bias"):
                if f"{name}.base_layer.{kind}" in weights:
                    plain[f"{name}.{kind}"] = weights[f"{name}.base_layer.{kind}"]
            down, up = weights[f"{name}.lora_A.default.weight"], weights[f"{name}.lora_B.default.weight"]
            plain[f"{name}.weight"] = plain[f"{name}.weight"] + (up @ down) * module.scaling["default"]
    return plain
