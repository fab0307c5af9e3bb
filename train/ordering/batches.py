"""The order of training: global batches of row numbers, the same for any number of processes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from curricle.schemas.common.errors import UsageError
from curricle.train.curricula.base import Stage
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray


@dataclass(frozen=True)
class Budget:
    """How much to train. Every limit that is set holds; training ends at the first one reached, never beyond it.

    ``tokens`` are response tokens: the last row is the last one that still fits.
    """

    samples: int | None = None
    tokens: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, limit in (("samples", self.samples), ("tokens", self.tokens), ("steps", self.steps)):
            if limit is not None and limit < 1:
                raise UsageError(f"a budget of {limit} {name}", remedy=f"give --budget.{name} at least 1")


@dataclass(frozen=True)
class GlobalBatch:
    """The rows of one optimizer step, over all processes. ``step`` counts from 0."""

    step: int
    rows: Rows
    stage: Stage


def response_tokens(table: Table) -> NDArray[np.int64]:
    """Response tokens of each row as the table counts them, for a budget in tokens; 0 where there is no count."""
    counts = np.nan_to_num(table.numbers("response_tokens")).astype(np.int64)
    if counts.max() < 1:
        raise UsageError("no row has response tokens", remedy="set the budget in samples or steps")
    return counts


def split(rows: Rows, size: int) -> list[Rows]:
    """ceil(n / size) batches, in order, whose sizes differ by at most one: no step rests on a lonely last row."""
    return np.array_split(rows, -(-len(rows) // size)) if len(rows) else []


class Cutter:
    """Cuts stages into global batches until the budget is spent; ``spent`` says that it is.

    A batch never spans two stages, so that a decision rests on a student that has trained on all that was decided
    before. The stage at which the budget ends is cut before it is split.
    """

    def __init__(self, size: int, budget: Budget, tokens: NDArray[np.integer] | None = None) -> None:
        """``size``: rows in a batch. ``tokens`` (one for each row of the table) is needed for a budget in tokens."""
        if size < 1:
            raise UsageError(f"a global batch of {size} rows", remedy="give at least 1")
        assert budget.tokens is None or tokens is not None, "a budget in tokens needs the token counts"
        self._size, self._budget, self._counts = size, budget, tokens
        self._steps = self._samples = self._tokens = 0
        self.spent = False

    def cut(self, stage: Stage) -> Iterator[GlobalBatch]:
        """The batches of the next stage; to be taken to their end before another one is cut."""
        budget, rows = self._budget, stage.rows
        if budget.samples is not None:
            rows = rows[: budget.samples - self._samples]
        if budget.tokens is not None and self._counts is not None:
            ends = self._tokens + np.cumsum(self._counts[rows], dtype=np.int64)
            rows = rows[: np.searchsorted(ends, budget.tokens, side="right")]
            self._tokens += int(self._counts[rows].sum())
        self._samples += len(rows)
        for part in split(rows, self._size):
            self._steps += 1
            yield GlobalBatch(self._steps - 1, part, stage)
            if self._steps == budget.steps:
                self.spent = True
                return
        self.spent = len(rows) < len(stage.rows) or self._samples == budget.samples or self._tokens == budget.tokens


def batches(
    stages: Iterable[Stage], size: int, budget: Budget, tokens: NDArray[np.integer] | None = None
) -> Iterator[GlobalBatch]:
    """The global batches of stages, see ``Cutter``. The next stage is asked for only while budget is left."""
    cutter = Cutter(size, budget, tokens)
    for stage in stages:
        yield from cutter.cut(stage)
        if cutter.spent:
            return


class OrderHash:
    """A running hash of the example ids consumed, batch by batch. Its digest is its whole state.

    digest_k = blake2b(digest_{k-1} + ids of batch k), 16 bytes; the first digest is 16 zero bytes.
    """

    def __init__(self, digest: str = "00" * 16) -> None:
        self._digest = bytes.fromhex(digest)

    def update(self, ids: NDArray[np.uint8]) -> None:
        """``ids``: the batch's example ids, uint8 (rows, 16), in the order in which they were consumed."""
        assert ids.ndim == 2 and ids.shape[1] == 16
        self._digest = blake2b(self._digest + ids.tobytes(), digest_size=16).digest()

    def hexdigest(self) -> str:
        return self._digest.hex()
