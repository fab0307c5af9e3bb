"""What a curriculum is: a state machine that asks the student, decides, and says what to train on next.

A curriculum is a generator of steps. It yields a ``Stage`` when rows are to be trained on, and a ``Probe`` when it
wants to ask the student something about some rows, such as its loss on them; it then receives the ``Decision`` that its
own ``decide`` makes of the answer. A stage may ask for its ``Outcome``, the loss of each row that was trained on, which
costs no pass of its own. Everything a curriculum does follows from the table, its options, the seed, those decisions
and those outcomes, so that a run is resumed by replaying them from a journal, never by deciding again (docs/design.md,
law 6). It knows nothing of torch.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from curricle.schemas.common.config import check_ranges
from curricle.schemas.common.errors import UsageError
from curricle.train.data.domains import Domains
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray


def rows_digest(rows: Rows) -> str:
    """32 hex digits that identify row numbers and their order."""
    return blake2b(np.ascontiguousarray(rows, "<i8").data, digest_size=16).hexdigest()


def rng(seed: int, *path: int) -> np.random.Generator:
    """A generator whose numbers depend on ``seed`` and ``path`` alone, never on what was drawn before.

    ``path``: numbers that tell this draw from others of the seed, such as the epoch.
    """
    return np.random.Generator(np.random.PCG64([seed, *path]))


def check(good: bool, found: str, remedy: str) -> None:
    """Refuse a wrong value of an option: UsageError with what was found and what to do, unless ``good``."""
    if not good:
        raise UsageError(found, remedy=remedy)


@dataclass(frozen=True)
class Candidate:
    """Rows that the student is asked about, under a name, such as that of the perspective they come from.

    ``rows``: row numbers from 0, int64 (rows,). ``held_out``: they are rows of ``table.held_out``, on which nothing is
    trained, instead of the table.
    """

    name: str
    rows: Rows
    held_out: bool = False


class ProbeKind(Protocol):
    """What a probe asks of its rows: ``Nll``, ``RewardGap``, or a class of one's own.

    ``name`` stands in the journal and the metrics.
    """

    name: ClassVar[str]

    def answer(self, student: Any, probe: "Probe") -> "ProbeResult":
        """Ask the student, without training it; called by all processes, which all return the same bits.

        ``student``: the ``curricle.train.training.asking.Asking`` of the run. It has the model and reads rows, and it
        counts what the answer costs.
        """
        ...


@dataclass(frozen=True)
class Nll:
    """The sum of the negative log-likelihood of the response tokens of every row of every candidate."""

    name: ClassVar[str] = "nll"

    def answer(self, student: Any, probe: "Probe") -> "ProbeResult":
        result: ProbeResult = student.nll(probe)
        return result


@dataclass(frozen=True)
class RewardGap:
    """How much better the response of each row of the first candidate is than what the student answers itself.

    By a reward that is fitted anew on the student's states. The rows of the second candidate, among those of the first,
    are those whose prompts the student answers, in at most ``limit`` tokens.
    """

    limit: int
    name: ClassVar[str] = "reward_gap"

    def answer(self, student: Any, probe: "Probe") -> "ProbeResult":
        result: ProbeResult = student.reward_gap(probe, self.limit)
        return result


@dataclass(frozen=True)
class Probe:
    """A question to the student about the rows of some candidates, without training. A row may stand in several.

    ``what`` is asked. ``purpose``: what the curriculum wants to know it for, in a word of its own; it stands in the
    journal and the metrics. ``index`` counts the probes of a run from 0.
    """

    candidates: tuple[Candidate, ...]
    what: ProbeKind = field(default_factory=Nll)
    purpose: str = ""
    index: int = 0

    @property
    def digest(self) -> str:
        """Stands for the rows asked about; held-out ones count down from -1."""
        return rows_digest(np.concatenate([-1 - it.rows if it.held_out else it.rows for it in self.candidates]))

    @property
    def question(self) -> tuple[str, str, tuple[str, ...], str]:
        """What was asked, as the decision about it states it: kind, purpose, candidates and digest."""
        return self.what.name, self.purpose, tuple(candidate.name for candidate in self.candidates), self.digest


@dataclass(frozen=True)
class ProbeResult:
    """What the student answered, aligned with the candidates of a probe and their rows.

    ``nll``: for each candidate a float64 array of sums of the negative log-likelihood of the response tokens, in nats.
    ``tokens``: int64 arrays of how many tokens each sum is over; 0 where a row has no token to score. Zeros where
    another kind does not ask for the loss.
    ``values``: what another kind asks for; of ``RewardGap`` the gap of each row of the first candidate, NaN where there
    is none.
    """

    nll: tuple[NDArray[np.float64], ...]
    tokens: tuple[NDArray[np.int64], ...]
    values: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Decision:
    """What followed from an answer: all that a replay needs, and what a person wants to know. See ``Decision.of``.

    ``what``: the name of the probe's kind, such as ``"nll"``. ``purpose``: that of the probe. ``candidates``: their
    names. ``digest``: 32 hex digits that stand for the rows asked about. For each candidate: ``rows``, how many;
    ``nll``, the sum over all of them in nats; ``tokens``, over how many; ``log_perplexity``, in nats per token.
    ``choice``: the name of the candidate that is chosen. ``scores``: numbers that the curriculum goes on with.
    """

    what: str
    purpose: str
    candidates: tuple[str, ...]
    digest: str
    rows: tuple[int, ...]
    nll: tuple[float, ...]
    tokens: tuple[int, ...]
    log_perplexity: tuple[float | None, ...]
    choice: str | None = None
    scores: NDArray[np.float64] | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        probe: Probe,
        result: ProbeResult,
        choice: str | None = None,
        scores: NDArray[np.float64] | None = None,
        log_perplexity: tuple[float | None, ...] | None = None,
    ) -> "Decision":
        """What a curriculum makes of an answer.

        ``choice``: the name of the candidate that is chosen. ``scores``: numbers that the curriculum goes on with, such
        as by what rows are sorted; the journal keeps every bit. ``log_perplexity``: of each candidate, averaged as the
        curriculum does, None where no row could be scored; by default over all tokens.
        """
        sums = tuple(float(nll[tokens > 0].sum()) for nll, tokens in zip(result.nll, result.tokens, strict=True))
        counts = tuple(int(tokens.sum()) for tokens in result.tokens)
        if log_perplexity is None:
            log_perplexity = tuple(nll / tokens if tokens else None for nll, tokens in zip(sums, counts, strict=True))
        return cls(
            *probe.question,
            tuple(len(each.rows) for each in probe.candidates),
            sums,
            counts,
            log_perplexity,
            choice,
            scores,
        )


@dataclass(frozen=True)
class Calibration:
    """How well estimates of the student's loss fitted what it said of some rows, before the stage that states it.

    ``decision``: which decision was checked, from 1. ``rows``: how many rows were asked about. ``rho``: Spearman's rank
    correlation of estimates and answers, None of fewer than three rows. ``bias``: the mean of answer - estimate, in
    nats per token. ``agreed``: on these rows both choose the same candidate.
    """

    decision: int
    rows: int
    rho: float | None
    bias: float
    agreed: bool


@dataclass(frozen=True)
class Stage:
    """Rows to train on next, in this order: ``rows``, row numbers from 0, int64 (rows,).

    A stage is cut into global batches; none spans two stages. ``choice``: the name of the perspective that the rows
    come from, where there was one to choose. ``competence``: for each perspective, which share of its order has been
    opened so far, in [0, 1]. ``index`` counts the stages of a run from 0. ``outcome``: the curriculum wants to know the
    loss of each of the rows, and gets an ``Outcome`` where it yields the stage, when all of them are trained on.
    ``calibration``: for the log and the report. ``weights``: of a mixture, which share of its rows each domain has.
    """

    rows: Rows
    choice: str | None = None
    competence: Mapping[str, float] = field(default_factory=dict)
    index: int = 0
    outcome: bool = False
    calibration: Calibration | None = None
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The loss of each row of a stage in the step that trained on it: before the step, and with its dropout.

    ``nll``: float64 (rows,), aligned with the rows of the stage, sums of the negative log-likelihood of the response
    tokens in nats, as the journal keeps them: rounded to float32. ``tokens``: int64 (rows,), how many tokens each sum
    is over; 0 where a row has no token to score. ``index``: that of the stage.
    """

    nll: NDArray[np.float64] = field(compare=False)
    tokens: NDArray[np.int64] = field(compare=False)
    index: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "nll", np.asarray(self.nll, np.float32).astype(np.float64))
        object.__setattr__(self, "tokens", np.asarray(self.tokens, np.int64))


Steps: TypeAlias = Generator[Probe | Stage, Any, None]
"""What ``yield`` gives depends on what is yielded: the ``Decision`` about a probe, the ``Outcome`` of a stage that asks
for it, and None for another stage."""


def next_of(steps: Steps, reply: Any) -> Probe | Stage | None:
    """The next step after a reply; None at the end."""
    try:
        return steps.send(reply)
    except StopIteration:
        return None


@dataclass(frozen=True)
class Curriculum(ABC):
    """The options of a curriculum, and the order that they mean. Derive this for one of your own, and define ``steps``.

    A subclass is a frozen dataclass whose fields are ``schemas.common.config.option(help, default)``: each is a flag
    ``--curriculum.KEY``. Whoever overrides ``__post_init__`` to check them calls that of this class, which checks their
    bounds. ``ABSENT``: what an option meant in orders that were recorded before there was one.
    """

    ABSENT: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        check_ranges(self, prefix="curriculum.")

    @abstractmethod
    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        """A generator of stages, and of probes if the student is asked. It may be endless: the budget ends it.

        ``table``: the rows to train on, numbered from 0; ``table.order(column, seed)`` sorts them. ``seed``: of the
        run, for ``rng(seed, …)``. ``batch``: rows in a global batch, for curricula that pace themselves by steps.
        Check every option and column before the first ``yield``, and raise ``UsageError`` where one does not fit.
        """

    def describe(self, table: Table, batch: int) -> str:
        """What it will do with this table, in a sentence without its full stop; batches have so many rows."""
        first = inspect.cleandoc(type(self).__doc__ or type(self).__name__).split("\n\n")[0]
        return " ".join(first.split()).removesuffix(".")

    def remarks(self, table: Table, batch: int) -> Iterator[str]:
        """What of its options cannot matter with this table, or may not do what a user wants of it; a line each."""
        yield from ()

    def columns(self) -> tuple[str, ...]:
        """The columns of the table that it reads, NAME or NAME:high or NAME:low. A run is refused if one is absent."""
        return ()

    def epoch_rows(self, table: Table) -> int:
        """Rows of a pass over what it has to give: the budget of a run that has no other."""
        return len(table)

    def domains(self, table: Table) -> Domains | None:
        """The domains whose exposure is worth knowing; None where it has nothing to do with any."""
        return None

    def decide(self, probe: Probe, result: ProbeResult, seed: int) -> Decision:
        """What follows from an answer: ``Decision.of(probe, result, …)``. Only for curricula that ask.

        It must depend on nothing but its arguments and the options.
        """
        raise NotImplementedError(f"{type(self).__name__} asks the student, and has no method that decides")
