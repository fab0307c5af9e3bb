"""A small random Llama beside a tokenizer: a model that is quick on a CPU."""

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

CONFIG = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}


def write_small_llama(
    directory: Path, tokenizer: PreTrainedTokenizerBase, seed: int = 0, **config: Any
) -> LlamaForCausalLM:
    """Write a Hugging Face directory; the same options write the same weights."""
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**CONFIG, "vocab_size": len(tokenizer), **tokens, **config}))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return model
