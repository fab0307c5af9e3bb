"""A packaged GGUF as a Hugging Face model directory."""

from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging


def convert(gguf: Path, directory: Path) -> None:
    """Write the GGUF of SmolLM2 or Gemma 3 as float32 safetensors with config, tokenizer and chat template, if any."""
    logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    quantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = quantized.config
    del config.quantization_config  # a model that came from GGUF refuses to be saved
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    if config.model_type == "gemma3_text":
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
