"""How CAMPUS comes to know which candidate the student finds easiest: by asking it, or from losses that are free.

Each way is a ``Chooser``: ``choose`` yields the probes that it needs and returns a name, ``learn`` takes what came of
the rows that were trained on. A worked example of the checks of ``Estimating``: the estimate says 1.0 of candidate A,
and 1.2 of B. Four rows of each are asked about: A's are 0.5 above their estimates, B's as estimated. Four rows are
trusted for 4 / (4 + 16) of what they say, so A goes to 1.1 and is still chosen. On the eight rows alone the answers
would have chosen B, and the estimates A: they do not agree, and the next decision is checked as well, if the cost
allows it.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from curricle.train.curricula.base import Calibration, Candidate, Outcome, Probe, rng
from curricle.train.curricula.campus.estimate import LossEstimate
from curricle.train.curricula.campus.perplexity import Averaging, log_perplexity
from curricle.train.data.correlation import spearman
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray

CHOOSE, CHECK = "choose", "check"  # purposes of probes
SAMPLE, DRAW = 1, 2  # what random numbers are for, so that two uses never share a stream
PASSES = 3  # to train on a row costs about three times as much as to read it: a backward pass costs two forward passes
ROUND = 4  # rows of each candidate that are asked about at once
TRUST = 16  # so many rows that were asked about count as much as the estimate
POOR = 0.6  # a check with a lower rank correlation than this is followed by another

Choosing: TypeAlias = Generator[Probe, Any, str]


class Chooser(Protocol):
    """``outcomes``: whether it wants to know the losses of the rows that are trained on."""

    outcomes: bool

    def choose(self, candidates: Mapping[str, Rows], decision: int) -> Choosing:
        """The name of one of the candidates; ``decision`` counts from 1."""
        ...

    def learn(self, rows: Rows, outcome: Outcome | None) -> None:
        """Rows are trained on."""
        ...


@dataclass
class Exact:
    """``probe=exact``: ask about every row of every candidate, each time."""

    outcomes = False

    def choose(self, candidates: Mapping[str, Rows], decision: int) -> Choosing:
        if len(candidates) == 1:
            return next(iter(candidates))
        answer = yield Probe(tuple(Candidate(*each) for each in candidates.items()), purpose=CHOOSE)
        return str(answer.choice)

    def learn(self, rows: Rows, outcome: Outcome | None) -> None:
        pass


@dataclass
class Sparse:
    """``probe=sparse``: ask about a sample of each candidate; until the cost allows it again, the last choice stands.

    ``sample``: rows a candidate, 0 for all. ``cost``: the share of the training's cost that asking may take, 0 for any.
    """

    sample: int
    cost: float
    seed: int
    outcomes = False
    choice: str = ""
    trained: int = 0
    probed: int = 0

    def choose(self, candidates: Mapping[str, Rows], decision: int) -> Choosing:
        probe = Probe(self._sampled(candidates, decision), purpose=CHOOSE)
        cost = sum(len(each.rows) for each in probe.candidates)
        if len(candidates) == 1:
            (self.choice,) = candidates
        elif self.choice not in candidates or not self.cost or self.probed + cost <= self.cost * PASSES * self.trained:
            answer = yield probe
            self.choice, self.probed = str(answer.choice), self.probed + cost
        return self.choice

    def learn(self, rows: Rows, outcome: Outcome | None) -> None:
        self.trained += len(rows)

    def _sampled(self, candidates: Mapping[str, Rows], decision: int) -> tuple[Candidate, ...]:
        """All rows, or a seeded sample of each candidate's, in their order."""
        sample = []
        for index, (name, rows) in enumerate(candidates.items()):
            sample.append(Candidate(name, sample_of(rows, self.sample, rng(self.seed, SAMPLE, decision, index))))
        return tuple(sample)


class Estimating:
    """``probe=free`` and ``probe=sampled``: choose by the estimated loss of every row, and check it by asking.

    ``sampled`` checks at every decision, ``free`` at decisions 2, 4, 8, …, and at the next one after a check that went
    badly; both only as far as the cost allows. A check asks about a few rows of each candidate at a time, until one
    candidate alone can still be the easiest (successive elimination) or ``sample`` rows of each have been asked about.
    ``calibration`` is what came of the last check that nobody has taken yet.
    """

    outcomes = True

    def __init__(
        self,
        table: Table,
        columns: Sequence[str],
        averaging: Averaging,
        temperature: float,
        always: bool,
        sample: int,
        cost: float,
        seed: int,
    ) -> None:
        """``cost``: the share of the training's cost that checks may take, in tokens; 0 for any."""
        self.estimate = LossEstimate(table, columns)
        self.calibration: Calibration | None = None
        self._averaging, self._temperature, self._always = averaging, temperature, always
        self._sample, self._cost, self._seed = sample or len(table), cost, seed
        self._response = table.counts("response_tokens")
        self._tokens = table.counts("prompt_tokens", "response_tokens")
        self._decision, self._next_check = 0, 2
        self._trained = self._probed = 0.0

    def choose(self, candidates: Mapping[str, Rows], decision: int) -> Choosing:
        self._decision = decision
        if len(candidates) == 1:
            return next(iter(candidates))
        expected = {name: self.estimate.predict(rows) for name, rows in candidates.items()}
        logs = {name: self._average(candidates[name], expected[name]) for name in candidates}
        if self._always or decision >= self._next_check:
            logs = yield from self._check(candidates, expected, logs)
        names = list(logs)
        return names[draw(list(logs.values()), self._temperature, rng(self._seed, DRAW, decision))]

    def learn(self, rows: Rows, outcome: Outcome | None) -> None:
        assert outcome is not None
        self._trained += PASSES * self._tokens[rows].sum()
        self.estimate.observe(rows, outcome.nll, outcome.tokens, self._decision)

    def take_calibration(self) -> Calibration | None:
        calibration, self.calibration = self.calibration, None
        return calibration

    def _average(self, rows: Rows, losses: NDArray[np.float64]) -> float | None:
        tokens = self._response[rows]
        return log_perplexity(losses * tokens, tokens, self._averaging)

    def _affordable(self, probe: Probe) -> bool:
        cost = sum(float(self._tokens[each.rows].sum()) for each in probe.candidates)
        if self._cost and self._probed + cost > self._cost * self._trained:
            return False
        self._probed += cost
        return True

    def _check(
        self, candidates: Mapping[str, Rows], expected: Mapping[str, NDArray[np.float64]], logs: dict[str, float | None]
    ) -> Generator[Probe, Any, dict[str, float | None]]:
        """Ask about rows of the candidates, and correct their estimates by what is found."""
        random = {
            name: rng(self._seed, SAMPLE, self._decision, index).permutation(len(rows))
            for index, (name, rows) in enumerate(candidates.items())
        }
        indices: dict[str, list[int]] = {name: [] for name in candidates}
        losses: dict[str, list[float]] = {name: [] for name in candidates}
        left, corrected = list(candidates), dict(logs)
        for start in range(0, self._sample, ROUND):
            drawn = {name: random[name][start : min(start + ROUND, self._sample)] for name in left}
            probe = Probe(
                tuple(Candidate(name, candidates[name][at]) for name, at in drawn.items() if len(at)), purpose=CHECK
            )
            if not probe.candidates or not self._affordable(probe):
                break
            answers = (yield probe).scores
            for each in probe.candidates:
                answer, answers = answers[: len(each.rows)], answers[len(each.rows) :]
                indices[each.name] += drawn[each.name].tolist()
                losses[each.name] += answer.tolist()
                self.estimate.observe(each.rows, answer, np.isfinite(answer).astype(np.int64), self._decision)
            errors = {name: np.array(losses[name]) - expected[name][indices[name]] for name in candidates}
            errors = {name: error[np.isfinite(error)] for name, error in errors.items()}
            corrected = {name: _corrected(log, errors[name]) for name, log in logs.items()}
            left = _possible(left, corrected, errors)
            if len(left) < 2:
                break
        if any(indices.values()):
            self._judge({name: expected[name][at] for name, at in indices.items()}, losses)
        return corrected

    def _judge(self, expected: Mapping[str, NDArray[np.float64]], losses: Mapping[str, Sequence[float]]) -> None:
        """How well the estimates fit, and so when to check again."""
        estimates, answers = np.concatenate(list(expected.values())), np.concatenate(list(losses.values()))
        good = np.isfinite(answers)
        chosen = [
            min(means, key=means.__getitem__)
            for values in (expected, losses)
            if (means := {name: float(np.mean(value)) for name, value in values.items() if np.isfinite(value).all()})
        ]
        agreed = len(chosen) == 2 and chosen[0] == chosen[1]
        rho = spearman(estimates[good], answers[good])
        bias = float(np.mean(answers[good] - estimates[good])) if good.any() else 0.0
        self.calibration = Calibration(self._decision, int(good.sum()), rho, bias, agreed)
        well = agreed and rho is not None and rho >= POOR
        self._next_check = 2 * self._decision if well else self._decision + 1


def sample_of(rows: Rows, most: int, random: np.random.Generator) -> Rows:
    """So many of the rows at most, in their order; 0: all."""
    return rows[np.sort(random.choice(len(rows), most, replace=False))] if 0 < most < len(rows) else rows


def draw(logs: Sequence[float | None], temperature: float, random: np.random.Generator) -> int:
    """The index of the lowest log-perplexity, or with a temperature a draw with softmax(-log perplexity / temperature).

    One without a scored token (None) only if no candidate has any.
    """
    costs = np.array([np.inf if log is None else log for log in logs])
    if temperature == 0 or np.isinf(costs.min()):
        return int(costs.argmin())  # the first of equals
    weights = np.exp((costs.min() - costs) / temperature)
    drawn = np.searchsorted(np.cumsum(weights), random.random() * weights.sum(), side="right")
    return min(int(drawn), len(logs) - 1)


def _corrected(log: float | None, errors: NDArray[np.float64]) -> float | None:
    """An estimate, moved by the mean error on rows that were asked about, as far as so many rows are trusted."""
    return log if log is None or not len(errors) else log + float(errors.mean()) * len(errors) / (len(errors) + TRUST)


def _possible(
    left: Sequence[str], corrected: Mapping[str, float | None], errors: Mapping[str, NDArray[np.float64]]
) -> list[str]:
    """Those that can still be the easiest: within two standard errors, by the spread of all errors together."""
    every = np.concatenate(list(errors.values()))
    if len(every) < 2:
        return list(left)
    spread = float(np.std(every, ddof=1))
    margins = {name: 2 * spread * np.sqrt(len(errors[name])) / (len(errors[name]) + TRUST) for name in left}
    values = {name: np.inf if (log := corrected[name]) is None else log for name in left}
    ceiling = min(values[name] + margins[name] for name in left)
    return [name for name in left if values[name] - margins[name] <= ceiling]
