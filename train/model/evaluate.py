"""The loss on held-out rows: sums of negative log-likelihoods over sums of tokens, whatever the batches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from curricle.train.data.encoding import Encoded
from curricle.train.distributed import Processes
from curricle.train.model.probe import CHUNK, score
from curricle.train.model.student import Student


@dataclass(frozen=True)
class HeldOutLoss:
    """The loss on one set, in nats per response token.

    ``loss``: the mean over all tokens. ``row_loss``: the mean over rows of each row's mean over its tokens, so that a
    long response counts no more than a short one. Both are None where no row has a token. ``tokens`` and ``rows``: how
    many were scored.
    """

    loss: float | None
    row_loss: float | None
    tokens: int
    rows: int


def evaluate(student: Student, documents: Sequence[Encoded], capacity: int, processes: Processes) -> HeldOutLoss:
    """The loss on these documents, the same bits in every process."""
    chunks = (documents[start : start + CHUNK] for start in range(0, len(documents), CHUNK))
    scores = score(student, chunks, capacity, processes)
    nll, tokens = scores.nll, scores.tokens
    some = tokens > 0
    if not some.any():
        return HeldOutLoss(None, None, 0, 0)
    by_row = float(np.mean(nll[some] / tokens[some]))
    return HeldOutLoss(float(nll.sum() / tokens.sum()), by_row, int(tokens.sum()), int(some.sum()))


def macro_mean(losses: Iterable[float | None]) -> float | None:
    """The mean over sets, however large each is; None where one of them has no loss, or there is none."""
    values = [*losses]
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if values and len(present) == len(values) else None
