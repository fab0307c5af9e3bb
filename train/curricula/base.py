"""What a curriculum is: a state machine that asks the student, decides, and says what to train on next.

A curriculum is a generator of steps. It yields a ``Stage`` when rows are to be trained on, and a ``Probe``
when it wants to know the student's loss on some rows; it then receives a ``Decision``. Everything it does
follows from the table, its options, the seed and those decisions, so that a run is resumed by replaying the
decisions from a journal, never by deciding again (DESIGN law 6). It knows nothing of torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Literal, TypeAlias

import numpy as np
from curricle.schemas.common.config import check_ranges
from curricle.schemas.common.errors import UsageError, UserError
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray

Purpose = Literal["choose", "resort", "refresh"]


def rows_digest(rows: Rows) -> str:
    """32 hex digits that identify row numbers and their order."""
    return blake2b(np.ascontiguousarray(rows, "<i8").data, digest_size=16).hexdigest()


def rng(seed: int, *path: int) -> np.random.Generator:
    """Random numbers that depend on ``seed`` and ``path`` alone, never on what was drawn before."""
    return np.random.Generator(np.random.PCG64([seed, *path]))


def check(good: bool, found: str, remedy: str) -> None:
    """Refuse a wrong value of an option."""
    if not good:
        raise UsageError(found, remedy=remedy)


@dataclass(frozen=True)
class Candidate:
    """Rows that may be trained on next, or must be sorted again, under the name of their perspective."""

    name: str
    rows: Rows


@dataclass(frozen=True)
class Probe:
    """A question to the student: the loss of every row of every candidate, without training.

    ``index`` counts the probes of a run from 0. A row may stand in several candidates. With purpose "refresh" the
    question is for the reward gap of the rows of the first candidate; the rows of the second, among them, are those
    whose prompts the student answers, in at most ``limit`` tokens.
    """

    candidates: tuple[Candidate, ...]
    purpose: Purpose
    index: int = 0
    limit: int = 0

    @property
    def digest(self) -> str:
        return rows_digest(np.concatenate([candidate.rows for candidate in self.candidates]))


@dataclass(frozen=True)
class ProbeResult:
    """What the student said, aligned with the candidates of a probe and their rows.

    ``nll``: for each candidate a float64 array of sums of the negative log-likelihood of the response tokens, in nats.
    ``tokens``: int64 arrays of how many tokens each sum is over; 0 where a row has no token to score.
    ``gaps``: the reward gap of each row of the first candidate, NaN where there is none (purpose "refresh").
    """

    nll: tuple[NDArray[np.float64], ...]
    tokens: tuple[NDArray[np.int64], ...]
    gaps: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Decision:
    """What followed from an answer: all that a replay needs, and what a person wants to know.

    ``rows``, ``nll`` and ``tokens`` are totals for each candidate; ``log_perplexity`` is averaged as the curriculum
    says, None where no row could be scored. ``choice`` is the candidate chosen (purpose "choose");
    ``scores`` by what the rows of the first candidate are sorted: their mean NLL (purpose "resort") or reward gap
    ("refresh"), NaN where there is none.
    """

    purpose: Purpose
    candidates: tuple[str, ...]
    digest: str
    rows: tuple[int, ...]
    nll: tuple[float, ...]
    tokens: tuple[int, ...]
    log_perplexity: tuple[float | None, ...]
    choice: str | None = None
    scores: NDArray[np.float64] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Stage:
    """Rows to train on next, in this order.

    ``choice`` names the perspective that they come from, where there was one to choose. ``competence`` says for each
    perspective which share of its order has been opened so far, in [0, 1]. ``index`` counts the stages of a run from 0.
    """

    rows: Rows
    choice: str | None = None
    competence: Mapping[str, float] = field(default_factory=dict)
    index: int = 0


Steps: TypeAlias = Generator[Probe | Stage, Decision | None, None]


@dataclass(frozen=True)
class Curriculum(ABC):
    """The options of a curriculum and the order that they mean.

    A subclass is a frozen dataclass whose fields are ``schemas.common.config.option``: each is a
    ``--curriculum.KEY`` flag.
    """

    def __post_init__(self) -> None:
        check_ranges(self, prefix="curriculum.")

    @abstractmethod
    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        """Yield stages, and probes if the student is asked. Endless unless the curriculum itself has an end.

        ``batch`` is the size of a global batch, for curricula that pace themselves by optimizer steps.
        The first step must not come before every option and column has been checked (``UsageError``).
        """

    def decide(self, probe: Probe, answer: ProbeResult, seed: int) -> Decision:
        """What follows from an answer. Only for curricula that ask."""
        raise AssertionError(f"{type(self).__name__} never asks")


class Course:
    """One run of a curriculum over a table.

    ``next`` gives a probe, a stage, or None at the end. After a probe comes exactly one ``answer`` (from the student)
    or ``replay`` (from a journal).
    """

    def __init__(self, curriculum: Curriculum, table: Table, seed: int, batch: int) -> None:
        """``batch``: rows in a global batch. Checks options and columns; UsageError if they do not fit."""
        self._curriculum, self._seed = curriculum, seed
        self._steps = curriculum.steps(table, seed, batch)
        self._ahead: Probe | Stage | None = next(self._steps, None)  # the first step alone is computed ahead
        self._started = False
        self._pending: Probe | None = None
        self._decision: Decision | None = None
        self._probes = self._stages = 0

    def next(self) -> Probe | Stage | None:
        """The next step; None when the curriculum has ended."""
        assert self._pending is None, "a probe waits for its answer"
        if self._started:
            try:
                self._ahead = self._steps.send(self._decision)
            except StopIteration:
                self._ahead = None
        self._started, self._decision = True, None
        step = self._ahead
        if isinstance(step, Probe):
            step = self._pending = replace(step, index=self._probes)
            self._probes += 1
        elif isinstance(step, Stage):
            step = replace(step, index=self._stages)
            self._stages += 1
        return step

    def answer(self, answer: ProbeResult) -> Decision:
        """Decide on what the student said; the decision is to be journalled before anything is trained."""
        assert self._pending is not None, "no probe waits for an answer"
        decision = self._curriculum.decide(self._pending, answer, self._seed)
        self.replay(decision)
        return decision

    def replay(self, decision: Decision) -> None:
        """Take a decision that was made before; UserError if it answers another question."""
        probe = self._pending
        assert probe is not None, "no probe waits for a decision"
        asked = (probe.purpose, tuple(candidate.name for candidate in probe.candidates), probe.digest)
        if asked != (decision.purpose, decision.candidates, decision.digest):
            raise UserError(
                f"the journal's decision {probe.index} answers another question than the curriculum asks now",
                remedy="use the table, the curriculum options and the seed that the journal was written with",
            )
        self._pending, self._decision = None, decision
