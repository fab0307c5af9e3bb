"""What scoring and training both ask of a model of transformers, and may not be left to its config."""

from pathlib import Path
from typing import Any, NamedTuple

from curricle.schemas.common.errors import UsageError


class Matrices(NamedTuple):
    """How many numbers are in the matrices of a causal language model by which a token is multiplied: those of its
    body, and of its head, the projection onto the vocabulary.
    """

    body: int
    head: int


def implementations(attention: str = "auto") -> dict[str, Any]:
    """Which code computes attention and experts, for ``from_pretrained``: what is named here, and no other.

    ``auto`` is what transformers chooses: sdpa where the model has it, else eager. None stands for that, and has to be
    said: where nothing is, config.json chooses, which may name code of the hub.
    """
    return {"attn_implementation": None if attention == "auto" else attention, "experts_implementation": None}


def check_reach(model: Any, length: int, option: str) -> None:
    """UsageError if the model has no positions for rows of ``length`` tokens, which its config says where it has few.

    Rotary positions go on beyond; learned ones end. To be asked on a CPU, where that is an error and no more, and
    without gradients.
    """
    reach = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(reach, int) or not 0 < reach < length:
        return
    ids = model.get_input_embeddings().weight.new_ones((1, length)).long()
    try:
        body(model)(input_ids=ids)
    except (IndexError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"{type(model).__name__} has positions for {reach} tokens, and {option} is {length}",
            remedy=f"give {option} {reach}, or less",
        ) from error


def body(model: Any) -> Any:
    """The part of a causal language model that gives its last hidden state; the model itself if there is none."""
    parts = (model.get_decoder(), model.base_model, getattr(model, "model", None))
    return next((part for part in parts if part is not None and part is not model), model)


def embeddings(model: Any) -> int:
    """How many tokens a model of transformers knows, read and predicted."""
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    return min(len(module.weight) for module in modules if hasattr(module, "weight"))


def matrices(directory: Path) -> Matrices:
    """By the config: no weights are read. Experts, each of which some tokens pass and others do not, do not count."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    every_token = [
        module.weight.numel()
        for name, module in body(model).named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and "expert" not in name
    ]
    head = model.get_output_embeddings()
    return Matrices(sum(every_token), 0 if head is None else head.weight.numel())
