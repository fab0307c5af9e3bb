"""Cross-entropy on the scored tokens alone, in chunks: the logits of a whole batch never stand in memory at once."""

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

LOGITS = 1 << 27
"""Logits of one chunk: 512 MiB in float32, and as much again for their gradient."""


def token_nll(hidden_SH: torch.Tensor, head: torch.nn.Module, targets_S: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of each target in nats, float32 (S,).

    ``hidden_SH`` are the states from which the targets are predicted, ``head`` maps them to logits. What does not fit
    into one chunk is computed again in the backward pass instead of being kept.
    """
    vocabulary = head.weight.shape[0]  # type: ignore[index, union-attr]
    size = max(1, LOGITS // int(vocabulary))  # type: ignore[arg-type]
    if len(targets_S) <= size:
        return _chunk_nll(hidden_SH, head, targets_S)
    chunks = zip(hidden_SH.split(size), targets_S.split(size), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([_chunk_nll(hidden, head, targets) for hidden, targets in chunks])
    return torch.cat([checkpoint(_chunk_nll, hidden, head, targets, use_reentrant=False) for hidden, targets in chunks])


def _chunk_nll(hidden_SH: torch.Tensor, head: torch.nn.Module, targets_S: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(head(hidden_SH).float(), targets_S, reduction="none")
