"""A GGUF file as a model of plain float32 weights, and a packaged one as a model directory. Imports torch."""

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging


def load_gguf(gguf: Path, **options: Any) -> PreTrainedModel:
    """The causal language model of a GGUF file. ``options`` are further ones of ``from_pretrained``.

    What the loader gives came from quantized weights and refuses to be saved, so its weights are copied into a model
    that knows nothing of that.
    """
    quantized = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False, **options
    )
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **options)
    model.load_state_dict(quantized.state_dict())
    model.generation_config = quantized.generation_config
    return model


def convert(gguf: Path, directory: Path) -> None:
    """Write the GGUF of SmolLM2 or Gemma 3 as float32 safetensors with config, tokenizer and chat template, if any."""
    logging.disable_progress_bar()
    model = load_gguf(gguf)
    model.save_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, trust_remote_code=False)
    if model.config.model_type == "gemma3_text":
        # The file says that a text begins with BOS, and the loader does not read that. Without it Gemma is lost.
        bos = (tokenizer.bos_token, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    else:
        # The file names its pre-tokenizer, "smollm", which splits numbers into digits before all else. The loader
        # does not know that name, and without it "\n\n1" and "  1" become other tokens than in training.
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        )
    tokenizer.save_pretrained(directory)
