"""A reward model as transformers knows one: the language model's body with one output at the last token."""

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curricle.schemas.common.disk import beside, publish
from curricle.schemas.common.errors import UsageError
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def check_architecture(model: PreTrainedModel) -> None:
    """UsageError if transformers has no sequence classification, of a linear head, for this language model."""
    try:
        with torch.device("meta"):
            classifier = _classifier(model.config)
        fits = classifier.score.weight.shape[1] == model.get_output_embeddings().weight.shape[1]  # type: ignore[index, union-attr]
    except (ValueError, AttributeError):
        fits = False
    if not fits:
        raise UsageError(
            f"transformers has no sequence classification with a linear head for {type(model).__name__}",
            remedy="choose another architecture, such as Llama, Qwen or Gemma",
        )


def save_reward_model(
    directory: Path,
    model: PreTrainedModel,
    weight: NDArray[np.float32],
    tokenizer: PreTrainedTokenizerBase,
    stops: list[int],
) -> None:
    """Write the body of ``model`` and the head ``weight`` (H,) as a directory, whole or not at all.

    transformers reads the reward at the last token that is no padding, and many tokenizers pad with the token that ends
    a response: here another one pads. Where there is none, the model reads one conversation at a time.
    """
    named = [tokenizer.pad_token_id, tokenizer.unk_token_id, *tokenizer.all_special_ids]
    padding = next((token for token in named if token is not None and token not in stops), None)
    config = copy.deepcopy(model.config)
    config.get_text_config().pad_token_id = padding
    classifier = _classifier(config)
    classifier.base_model.load_state_dict(model.get_decoder().state_dict())
    with torch.no_grad():
        classifier.score.weight.copy_(torch.from_numpy(weight)[None])
    partial = beside(directory)
    for stale in (partial, directory):
        shutil.rmtree(stale, ignore_errors=True)
    classifier.save_pretrained(partial)
    if padding is not None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding)
    tokenizer.save_pretrained(partial)
    publish(directory)


def _classifier(config: PretrainedConfig) -> Any:
    config = copy.deepcopy(config)
    config.num_labels = 1
    return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
