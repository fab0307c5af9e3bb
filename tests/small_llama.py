"""A small random Llama beside a tokenizer: a model that is quick on a CPU."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

TOKENS = 4096

CONFIG = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}


def write_small_tokenizer(directory: Path, source: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of another directory with the first ``TOKENS`` of its tokens, and the merges that make them.

    What a small model costs to load, train and save is the rest of them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(source / name, directory / name)
    tokenizer = json.loads((source / "tokenizer.json").read_text("utf-8"))
    model = tokenizer["model"]
    model["vocab"] = {token: number for token, number in model["vocab"].items() if number < TOKENS}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    return AutoTokenizer.from_pretrained(directory)


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
