"""A watch over losses: a run stops where one is not a number."""

from collections.abc import Sequence

import numpy as np
import torch
from curricle.schemas.common.errors import Divergence
from curricle.train.data.batching import MicroBatch
from curricle.train.data.encoding import Encoded
from curricle.train.distributed import Processes


class Finite:
    """Notices losses and gradients that are not finite, and says which rows they came from."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._pending: list[tuple[int, torch.Tensor, list[tuple[torch.Tensor, list[int], tuple[int, ...]]]]] = []
        self._parts: list[tuple[torch.Tensor, list[int], tuple[int, ...]]] = []

    def watch(self, micro: MicroBatch, nll_S: torch.Tensor, documents: Sequence[Encoded]) -> None:
        rows = [documents[index].file_row for index in micro.documents]
        self._parts.append((nll_S.detach(), rows, micro.counts))

    def close(self, step: int, gradient_norm: torch.Tensor) -> None:
        """The optimizer step is about to be made."""
        self._pending.append((step, gradient_norm, self._parts))
        self._parts = []

    def check(self, after_step: bool = False) -> None:
        """Divergence if one was not finite; this is where the host waits for the device. ``after_step``: the step that
        made it so is the one before, and no checkpoint holds it yet."""
        pending, self._pending = self._pending, []
        for step, norm, parts in pending:
            bad = [row for part in parts for row in _bad_rows(*part)]
            rows = [row for _, part, _ in parts for row in part]
            if self._processes.sum(np.array([len(bad)]))[0] or not torch.isfinite(norm):
                kind = (
                    f"the loss of rows {bad[:8]}" if bad else f"the gradient of rows {rows[:8]}" if rows else "a loss"
                )
                when = (
                    f"after step {step}; no checkpoint of it is made"
                    if after_step
                    else f"in step {step + 1}; training has stopped before that step counts"
                )
                raise Divergence(
                    f"{kind} is not finite {when}",
                    remedy="look at these rows, or lower --optimizer.lr, with another --output; "
                    "the last checkpoint, if there is one, is whole",
                )


def _bad_rows(nll_S: torch.Tensor, rows: list[int], counts: tuple[int, ...]) -> list[int]:
    finite = torch.isfinite(nll_S).cpu()
    if finite.all():
        return []
    return [row for row, part in zip(rows, finite.split(list(counts)), strict=True) if not part.all()]
