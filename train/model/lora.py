"""Adapters."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from curricle.schemas.common.errors import UsageError
from curricle.train.settings import LoraSettings
from safetensors.torch import load_file, save_file
from transformers import (
    PreTrainedModel,
)

ADAPTER = "adapter"
"""The directory of a checkpoint that ``PeftModel.from_pretrained(base, directory)`` reads."""
_PREFIX, _NAME = "base_model.model.", "default"
"""What peft puts before the names of a model, and the adapter's own name, which it leaves out of a file."""


def add_adapters(model: PreTrainedModel, settings: LoraSettings, base: str) -> None:
    """Put LoRA adapters into the linear modules, and freeze everything else. ``base``: what the model is called."""
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
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise UsageError(str(error), remedy="name linear modules of the model with --lora.targets") from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def save_adapter(directory: Path, model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Write the adapters of a model, if it has some, as peft does: their configuration and their weights."""
    adapters = {
        f"{_PREFIX}{name.replace(f'.{_NAME}.', '.')}": weight.contiguous()
        for name, weight in weights.items()
        if "lora_" in name
    }
    if not adapters:
        return
    directory.mkdir()
    config: Any = model.peft_config[_NAME]
    values = {**config.to_dict(), "inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in values.items()}
    (directory / "adapter_config.json").write_text(json.dumps(plain, indent=1, sort_keys=True, default=str))
    save_file(adapters, directory / "adapter_model.safetensors", {"format": "pt"})


def load_adapter(directory: Path) -> dict[str, torch.Tensor]:
    """What ``save_adapter`` wrote, by the names of the model's state dict; nothing if it wrote nothing."""
    path = directory / "adapter_model.safetensors"
    if not path.exists():
        return {}
    return {
        re.sub(r"\.(lora_\w+)\.", rf".\1.{_NAME}.", name.removeprefix(_PREFIX)): weight
        for name, weight in load_file(path).items()
    }


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
