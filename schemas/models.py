"""What scoring and training both ask of a model of transformers, and may not be left to its config."""

from typing import Any


def implementations(attention: str = "auto") -> dict[str, Any]:
    """Which code computes attention and experts, for ``from_pretrained``: what is named here, and no other.

    ``auto`` is what transformers chooses: sdpa where the model has it, else eager. None stands for that, and has to be
    said: where nothing is, config.json chooses, which may name code of the hub.
    """
    return {"attn_implementation": None if attention == "auto" else attention, "experts_implementation": None}


def body(model: Any) -> Any:
    """The part of a causal language model that gives its last hidden state; the model itself if there is none."""
    parts = (model.get_decoder(), model.base_model, getattr(model, "model", None))
    return next((part for part in parts if part is not None and part is not model), model)


def embeddings(model: Any) -> int:
    """How many tokens a model of transformers knows, read and predicted."""
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    return min(len(module.weight) for module in modules if hasattr(module, "weight"))
