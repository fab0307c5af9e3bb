"""What options need that may not be installed: refused before torch is imported, and before anything is written."""

import importlib.util

from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError
from curricle.train.settings import DeviceSettings, LogSettings, TrainSettings

TRACKERS = ("aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb")
"""Those of accelerate, which is asked for none before it is needed: torch comes with it."""


def check_extras(settings: TrainSettings) -> None:
    """UsageError for an option that needs what is not installed."""
    check_trackers(settings.log)
    if settings.lora.rank and not _installed("peft"):
        raise UsageError(
            f"--lora.rank {settings.lora.rank} needs peft, which is not installed",
            remedy='pip install "curricle[lora]"',
        )
    check_attention(settings.device)


def check_trackers(settings: LogSettings) -> None:
    """UsageError for a tracker that is unknown or not installed, before anything is written."""
    if settings.tensorboard and not _installed("tensorboard"):
        raise UsageError("--log.tensorboard needs tensorboard", remedy='pip install "curricle[tensorboard]"')
    if name := settings.tracker:
        if name not in TRACKERS:
            raise UsageError(f"unknown tracker {name!r}", remedy=nearest(name, TRACKERS))
        for needed in ("accelerate", name):
            if not _installed(needed):
                raise UsageError(f"--log.tracker {name} needs {needed}", remedy=f"pip install {needed}")


def check_attention(device: DeviceSettings) -> None:
    """UsageError for attention by a package that is not installed."""
    if device.attention == "flash_attention_2" and not _installed("flash_attn"):
        raise UsageError(
            "--device.attention flash_attention_2 needs the package flash-attn, which is not installed",
            remedy="pip install flash-attn --no-build-isolation (it wants an NVIDIA GPU, and its compiler where there "
            "is no wheel), or leave the option out; for --batch.packing, flex_attention needs no package",
        )


def _installed(module: str) -> bool:
    """Whether a module could be imported; it is not."""
    return importlib.util.find_spec(module) is not None
