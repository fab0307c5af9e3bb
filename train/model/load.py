"""Names to models and tokenizers."""

from pathlib import Path

import torch
from curricle.schemas.chat.gguf import load_gguf
from curricle.schemas.chat.models import implementations
from curricle.train.model.locate import locate, model_errors
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; UsageError if there is none."""
    with model_errors(name):
        path, options = locate(name)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **options)
        return tokenizer


def load_model(name: str, attention: str) -> PreTrainedModel:
    """A model in float32, from a directory, the hub, or a GGUF file (whose weights become plain float32 ones)."""
    with model_errors(name, attention):
        path, options = locate(name)
        if options:
            return load_gguf(Path(path) / options["gguf_file"], **implementations(attention))
        loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=torch.float32,
            **implementations(attention),
            trust_remote_code=False,
            use_safetensors=True,  # a pickle can run code
        )
        return loaded
