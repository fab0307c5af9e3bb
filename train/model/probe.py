"""What the student says to a question: exact sums of the loss of rows, whatever they are batched with."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from curricle.schemas.common.errors import Divergence
from curricle.train.data.batching import Size, micro_batches
from curricle.train.data.encoding import Encoded
from curricle.train.data.table import Rows
from curricle.train.distributed import Processes
from curricle.train.model.loss import document_sums
from curricle.train.model.memory import smaller_passes
from curricle.train.model.student import Student
from numpy.typing import NDArray

CHUNK = 1024
"""Rows that are encoded and sorted by length together."""


@dataclass(frozen=True)
class NllSums:
    """``nll``: float64 sums in nats, ``tokens``: int64 counts, one of each for a document. ``size``: what it took."""

    nll: NDArray[np.float64]
    tokens: NDArray[np.int64]
    size: Size


def score(
    student: Student,
    documents: Iterable[Sequence[Encoded]],
    capacity: int,
    processes: Processes,
    between: Callable[[], None] = lambda: None,
) -> NllSums:
    """The loss of every document of every chunk, in order, computed by all processes together.

    Each process scores its share and leaves zeros elsewhere, so that the one sum at the end is exact, and every
    process holds the same bits. All make as many passes, and call ``between`` after each.
    Divergence, with the rows, where a loss is not finite.
    """
    rows: list[int] = []
    tokens: list[int] = []
    indices: list[int] = []
    counts: list[int] = []
    losses: list[torch.Tensor] = []
    size = Size()
    with student.answering():
        for chunk in documents:
            longest = max((len(document) for document in chunk), default=1)
            while True:
                passes = micro_batches(chunk, max(capacity, longest), processes.world, False, student.alike)
                nll: list[torch.Tensor] = []
                try:
                    for micro in passes[processes.rank]:
                        nll.append(student.nll(micro))
                        between()
                    break
                except (RuntimeError, MemoryError) as error:
                    together = max(len(micro.documents) for micro in passes[processes.rank])
                    capacity = smaller_passes(
                        error, "the loss of rows", max(capacity, longest), together, processes.world
                    )
            losses += nll
            for micro in passes[processes.rank]:
                indices += [len(rows) + document for document in micro.documents]
                counts += micro.counts
            size = sum((micro.size for share in passes for micro in share), size)
            rows += [document.file_row for document in chunk]
            tokens += [len(document.scored) for document in chunk]
    sums = processes.sum(document_sums(losses, indices, counts, len(rows)))
    if bad := [row for row, loss in zip(rows, sums, strict=True) if not np.isfinite(loss)]:
        raise Divergence(
            f"the loss of rows {bad[:8]} is not finite, and of {len(bad)} in all",
            remedy="look at these rows, or lower --optimizer.lr, with another --output; the last checkpoint is whole",
        )
    return NllSums(sums, np.array(tokens, np.int64), size)


def chunks(rows: Rows, encode: Callable[[Rows], list[Encoded]]) -> Iterator[list[Encoded]]:
    """Rows, ``CHUNK`` at a time, as the student reads them."""
    for start in range(0, len(rows), CHUNK):
        yield encode(rows[start : start + CHUNK])
