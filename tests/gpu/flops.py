"""Floating point operations by the usual formula (Chowdhery et al. 2022, appendix B).

Forward: 2 a parameter of the layers' matrices and token, 2 a parameter of the head and scored token, and 4 L H T a
token for attention, as if every token attended to all T. Training: three times that, which is 6 N. The trainer reports
MFU by the same formula. A causal kernel does half of the attention: ``causal`` counts it so.
"""

from collections.abc import Sequence

import torch


def forward_flops(model: torch.nn.Module, lengths: Sequence[int], scored: int, causal: bool = False) -> float:
    head = model.get_output_embeddings()
    body = sum(
        each.weight.numel() for each in model.modules() if isinstance(each, torch.nn.Linear) and each is not head
    )
    config = model.config.get_text_config()
    width = config.num_hidden_layers * config.num_attention_heads * _head_size(config)
    attention = 4 * width * sum(length**2 for length in lengths)
    return 2.0 * (body * sum(lengths) + head.weight.numel() * scored) + attention / (2 if causal else 1)


def _head_size(config: object) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
