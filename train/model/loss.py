"""Cross-entropy on the scored tokens alone, in chunks: the logits of a whole batch never stand in memory at once."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
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


def document_sums(
    losses: Sequence[torch.Tensor], indices: Sequence[int], counts: Sequence[int], size: int
) -> NDArray[np.float64]:
    """The losses of tokens added up by document, float64 (size,), on the host, which waits for the device.

    ``losses``: float32 tensors that hold, one after the other, ``counts[i]`` tokens of document ``indices[i]``.
    """
    sums = np.zeros(size)
    if losses:
        tokens = torch.cat([*losses]).double().cpu().numpy()
        np.add.at(sums, np.repeat(indices, counts).astype(np.int64), tokens)
    return sums


def _chunk_nll(hidden_SH: torch.Tensor, head: torch.nn.Module, targets_S: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(head(hidden_SH).float(), targets_S, reduction="none")
