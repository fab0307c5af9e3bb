"""Two watches over a run that never make the device wait: what was really consumed, and whether losses are finite."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.errors import UserError
from train.batching import MicroBatch
from train.distributed import Processes
from train.encoding import Encoded
from train.order import OrderHash


class Order:
    """Compares the ids of the rows that went through the model with the plan (DESIGN law 5).

    The plan hashes the ids of each global batch. Every process notes the ids of the documents that it consumed, at
    their places; ``check`` adds these up over the processes. A row consumed twice, or by nobody, or in another's place
    gives another sum, and so another hash.
    """

    def __init__(self, processes: Processes) -> None:
        self._planned, self._consumed = OrderHash(), OrderHash()
        self._processes = processes
        self._words: list[NDArray[np.int64]] = []

    @property
    def digest(self) -> str:
        """The hash of what was planned so far."""
        return self._planned.hexdigest()

    def skip(self, ids: NDArray[np.uint8]) -> None:
        """A global batch that was trained on, and checked, before the run was resumed."""
        self._planned.update(ids)
        self._consumed.update(ids)

    def plan(self, ids: NDArray[np.uint8]) -> None:
        """The next global batch, uint8 (rows, 16)."""
        self._planned.update(ids)
        self._words.append(np.zeros((len(ids), 2), np.int64))

    def consume(self, passes: Sequence[MicroBatch], documents: Sequence[Encoded], ids: NDArray[np.uint8]) -> None:
        """What this process trained on in the last batch; ``ids`` are those of the whole table."""
        for micro in passes:
            for place in micro.documents:
                self._words[-1][place] += np.ascontiguousarray(ids[documents[place].row]).view("<i8")
        if self._processes.first:  # a document without tokens is visited by nobody, and counts as consumed
            for place, document in enumerate(documents):
                if not len(document):
                    self._words[-1][place] += np.ascontiguousarray(ids[document.row]).view("<i8")

    def check(self, step: int) -> None:
        """UserError if what was consumed is not what was planned."""
        if self._words:
            sizes = [len(words) for words in self._words]
            summed = self._processes.sum(np.concatenate(self._words))
            for words in np.split(summed, np.cumsum(sizes)[:-1]):
                self._consumed.update(np.ascontiguousarray(words).view(np.uint8).reshape(-1, 16))
            self._words = []
        if self._consumed.hexdigest() != self.digest:
            raise UserError(
                f"the rows trained on before step {step} are not the rows that were planned",
                remedy="the checkpoints up to the one before are in order; please report this",
            )


class Finite:
    """Notices losses and gradients that are not finite, and says which rows they came from."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._pending: list[tuple[int, torch.Tensor, list[tuple[torch.Tensor, list[int], tuple[int, ...]]]]] = []
        self._parts: list[tuple[torch.Tensor, list[int], tuple[int, ...]]] = []

    def watch(self, micro: MicroBatch, nll_S: torch.Tensor, documents: Sequence[Encoded]) -> None:
        rows = [documents[place].row for place in micro.documents]
        self._parts.append((nll_S.detach(), rows, micro.counts))

    def close(self, step: int, gradient_norm: torch.Tensor) -> None:
        """The optimizer step is about to be made."""
        self._pending.append((step, gradient_norm, self._parts))
        self._parts = []

    def check(self, made: bool = False) -> None:
        """UserError if one was not finite; this is where the host waits for the device. ``made``: the step that made it
        so is the one before, and no checkpoint holds it yet."""
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
                    if made
                    else f"in step {step + 1}; training has stopped before that step counts"
                )
                raise UserError(
                    f"{kind} is not finite {when}",
                    remedy="look at these rows, or lower --optimizer.lr, with another --output; "
                    "the last checkpoint, if there is one, is whole",
                )


def _bad_rows(nll_S: torch.Tensor, rows: list[int], counts: tuple[int, ...]) -> list[int]:
    finite = torch.isfinite(nll_S).cpu()
    if finite.all():
        return []
    return [row for row, part in zip(rows, finite.split(list(counts)), strict=True) if not part.all()]
