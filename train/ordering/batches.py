"""The order of training: global batches of row numbers, the same for any number of processes."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from hashlib import blake2b
from itertools import pairwise

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

    @property
    def described(self) -> str:
        return " and ".join(f"{limit:,} {name}" for name, limit in asdict(self).items() if limit)

    def extends(self, other: "Budget") -> bool:
        """Whether it has the limits of another one, and at least one is larger and none smaller."""
        pairs = [(mine, theirs) for mine, theirs in zip(astuple(self), astuple(other), strict=True) if mine or theirs]
        return self != other and all(mine and theirs and mine >= theirs for mine, theirs in pairs)


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
    before. The stage at which the budget ends is cut before it is split. Of several budgets, each larger than the one
    before, every one ends a batch where it is spent: what a run has made stays as it is when it is extended.
    """

    def __init__(self, size: int, budgets: Sequence[Budget], tokens: NDArray[np.integer] | None = None) -> None:
        """``size``: rows in a batch. ``tokens`` (one for each row of the table) is needed for a budget in tokens."""
        if size < 1:
            raise UsageError(f"a global batch of {size} rows", remedy="give at least 1")
        self._size, self._counts = size, tokens
        self._budget, *self._later = budgets
        assert self._budget.tokens is None or tokens is not None, "a budget in tokens needs the token counts"
        self._steps = self._samples = self._tokens = 0
        self.spent = False

    def cut(self, stage: Stage) -> Iterator[GlobalBatch]:
        """The batches of the next stage; to be taken to their end before another one is cut."""
        rest = yield from self._cut(stage, stage.rows)
        while self.spent and self._later:
            self._budget = self._later.pop(0)
            rest = yield from self._cut(stage, rest)

    def _cut(self, stage: Stage, rows: Rows) -> Generator[GlobalBatch, None, Rows]:
        """Batches of these rows, as far as the budget goes; returns the rows that are left."""
        budget, fits, done = self._budget, rows, 0
        if budget.samples is not None:
            fits = fits[: budget.samples - self._samples]
        if budget.tokens is not None and self._counts is not None:
            ends = self._tokens + np.cumsum(self._counts[fits], dtype=np.int64)
            fits = fits[: np.searchsorted(ends, budget.tokens, side="right")]
        for part in split(fits, self._size):
            done += len(part)
            self._steps += 1
            self._samples += len(part)
            self._tokens += 0 if self._counts is None else int(self._counts[part].sum())
            yield GlobalBatch(self._steps - 1, part, stage)
            if self._steps == budget.steps:
                self.spent = True
                return rows[done:]
        self.spent = done < len(rows) or self._samples == budget.samples or self._tokens == budget.tokens
        return rows[done:]


def batches(
    stages: Iterable[Stage],
    size: int,
    budget: Budget | Sequence[Budget],
    tokens: NDArray[np.integer] | None = None,
) -> Iterator[GlobalBatch]:
    """The global batches of stages, see ``Cutter``. The next stage is asked for only while budget is left."""
    cutter = Cutter(size, [budget] if isinstance(budget, Budget) else budget, tokens)
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


def digest_of(ids: NDArray[np.uint8], steps: NDArray[np.int64]) -> str:
    """The hash of ids, uint8 (visits, 16), in steps, as a run states it; see ``OrderHash``."""
    running = OrderHash()
    edges = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]
    for start, end in pairwise(edges):
        running.update(ids[start:end])
    return running.hexdigest()
