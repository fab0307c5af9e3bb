"""Small GGUF files of the two families that come as packages, with random float32 weights."""

from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

WIDTH, HIDDEN, HEADS, LAYERS = 32, 64, 4, 2
# fmt: off
SHAPES = {
    "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH),
    "attn_v": (WIDTH, WIDTH), "attn_output": (WIDTH, WIDTH), "ffn_gate": (HIDDEN, WIDTH), "ffn_up": (HIDDEN, WIDTH),
    "ffn_down": (WIDTH, HIDDEN),
}
OF_GEMMA = {
    "post_attention_norm": (WIDTH,), "post_ffw_norm": (WIDTH,), "attn_q_norm": (WIDTH // HEADS,),
    "attn_k_norm": (WIDTH // HEADS,),
}
# fmt: on


def write_small_gguf(path: Path, architecture: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Write a file of ``llama`` with SmolLM2's kind of tokenizer, or of ``gemma3`` with Gemma's; its tensors."""
    random = np.random.default_rng(seed)
    gemma = architecture == "gemma3"
    pieces, kinds, scores, merges = _gemma_tokens() if gemma else _bpe_tokens()
    writer = GGUFWriter(str(path), architecture)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    if gemma:
        writer.add_key_length(WIDTH // HEADS)
        writer.add_value_length(WIDTH // HEADS)
        writer.add_sliding_window(64)
    else:
        writer.add_rope_dimension_count(WIDTH // HEADS)
        writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("llama" if gemma else "gpt2")
    writer.add_tokenizer_pre("default" if gemma else "smollm")
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    if scores:
        writer.add_token_scores(scores)
    if merges:
        writer.add_token_merges(merges)
    writer.add_bos_token_id(2 if gemma else 1)
    writer.add_eos_token_id(1 if gemma else 2)
    writer.add_pad_token_id(0 if gemma else 2)
    writer.add_unk_token_id(3 if gemma else 0)
    shapes = {"token_embd": (len(pieces), WIDTH), "output_norm": (WIDTH,)}
    shapes |= {
        f"blk.{layer}.{name}": shape
        for layer in range(LAYERS)
        for name, shape in {**SHAPES, **(OF_GEMMA if gemma else {})}.items()
    }
    tensors = {f"{name}.weight": random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def _bpe_tokens() -> tuple[list[str], list[TokenType], list[float], list[str]]:
    letters = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"]
    pieces = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "th", "the", "Ġthe", "ĠĠ", "12"]
    kinds = [TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(pieces) - 3)
    return pieces, kinds, [], ["t h", "th e", "Ġ the", "Ġ Ġ", "1 2"]


def _gemma_tokens() -> tuple[list[str], list[TokenType], list[float], list[str]]:
    letters = [chr(code) for code in range(33, 127)] + ["▁", "\n"]
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    pieces += ["th", "the", "▁the"]
    kinds = [TokenType.CONTROL] * 3 + [TokenType.UNKNOWN] + [TokenType.BYTE] * 256
    kinds += [TokenType.NORMAL] * (len(pieces) - len(kinds))
    return pieces, kinds, [-float(rank) for rank in range(len(pieces))], []
