"""How what is left of an order is sorted again as the student learns: by estimates, which are free, or by asking it."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from curricle.train.curricula.base import Candidate, Probe, RewardGap, rng
from curricle.train.curricula.campus.choosing import Estimating, sample_of
from curricle.train.curricula.campus.perspectives import Orders, Perspective
from curricle.train.data.table import Table
from numpy.typing import NDArray

RESORT, REFRESH, ANSWERS = "resort", "refresh", "generated"  # two purposes of probes, and who answers in the second
PROMPTS = 3  # what random numbers are for, beside those of choosing


@dataclass(frozen=True)
class Reward:
    """How the order by ``name`` is sorted by a reward: ``rows`` prompts are answered (0: all), in ``tokens`` each."""

    name: str
    rows: int
    tokens: int


class Sorting:
    """What is sorted again, and when.

    ``loss``: names of perspectives that follow the student's loss. ``every``: after so many decisions; 0: after 1, 2,
    4, 8, … ``epochs``: forward passes that asking may cost in one pass over the orders; None: any.
    ``sparse``: ask about the loss after every so many visits of a perspective itself, the fewest that keep within
    ``epochs``, as is always done about the reward. ``estimate``: what sorts after decisions, without asking.
    """

    def __init__(
        self,
        orders: Orders,
        table: Table,
        seed: int,
        loss: Sequence[str],
        every: int,
        epochs: float | None,
        sparse: bool,
        reward: Reward | None,
        estimate: Estimating | None,
    ) -> None:
        self._orders, self._table, self._seed = orders, table, seed
        self._loss = [orders.by_name[name] for name in loss if name in orders.by_name]
        self._reward, self._every, self._epochs, self._estimate = reward, every, epochs, estimate
        rewarded = [orders.by_name[reward.name]] if reward else []
        self._sparse = sparse
        self._periodic = [*(self._loss if sparse else []), *rewarded]
        self._by_decision = [] if sparse else [each for each in self._loss if each not in rewarded]
        self._period = (every or self._fewest()) if self._periodic else 0
        self._forwarded = 0
        self._periods: dict[str, int] = {}

    def remarks(self, own: bool) -> Iterator[str]:
        """Why a reward may never be refitted. ``own``: each order is opened by its own visits."""
        if self._reward is None:
            return
        order, epochs = self._orders.by_name[self._reward.name], self._epochs
        slices, words = len(order.cuts) - 1, f"refresh=reward may never come due: {self._reward.name}"
        if not 0 < self._period < slices:
            yield f"{words} is sorted again too rarely for its {slices} slices; raise resort_epochs"
            return
        last = order.cuts[(slices - 1) // self._period * self._period]
        least, whole = self._passes(order, len(order.rows) - last), len(self._table)
        before = 0 if self._estimate else sum(len(each.rows) for each in self._by_decision)
        if epochs is not None and before + least > epochs * whole:
            names = ", ".join(each.name for each in self._by_decision)
            yield f"{words} waits for {names}, which takes up resort_epochs {epochs:g}; raise it, or use probe=free"
        elif own:
            times = f"has to be chosen {self._period} times first, of {slices}"
            yield f"{words} {times}; pointer=shared opens all orders alike"

    def begin_again(self, decision: int) -> Generator[Probe, Any, None]:
        """The orders are opened from their start, before a decision: sort them whole where that is free, or an epoch
        begins, since an order that an epoch begins with is that of the stored losses."""
        self._forwarded = 0 if not self._orders.round else self._forwarded
        self._periods = {}
        if self._estimate:
            self._by_estimates(self._estimate)
        elif not self._orders.round:
            for each in self._by_decision:
                yield from self._ask(each, decision)

    def after(self, choice: str, decision: int) -> Generator[Probe, Any, None]:
        """What is due after a decision."""
        for each in self._due(choice):
            yield from self._ask(each, decision)
        if decision % self._every == 0 if self._every else decision & (decision - 1) == 0:
            if self._estimate:
                self._by_estimates(self._estimate)
            else:
                for each in self._by_decision:
                    yield from self._ask(each, decision)

    def _due(self, choice: str) -> list[Perspective]:
        """Those that have made as many visits as a period has since they were last due, or since their start."""
        if not self._period:
            return []
        if self._sparse:  # as in version 0.1, which looked at the chosen one alone, and not at slices passed over
            return [each for each in self._periodic if each.name == choice and each.visits % self._period == 0]
        periods = {each.name: each.visits // self._period for each in self._periodic}
        due = [each for each in self._periodic if periods[each.name] > self._periods.get(each.name, 0)]
        self._periods = periods
        return due

    def _by_estimates(self, estimate: Estimating) -> None:
        for each in self._by_decision:
            self._replace(each, estimate.estimate.predict(each.rest))

    def _replace(self, perspective: Perspective, losses: NDArray[np.float64]) -> None:
        rest = perspective.rest
        difficulty = np.full(len(self._table), np.nan)
        difficulty[rest] = losses * perspective.sign
        unscored = rest[np.isnan(losses)]  # they stay last, in the order that they had
        perspective.replace_rest(np.concatenate([self._table.sort(difficulty, self._seed), unscored]))

    def _ask(self, perspective: Perspective, decision: int) -> Generator[Probe, Any, None]:
        rest = len(perspective.rest)
        passes = self._passes(perspective, rest)
        if rest > 1 and (self._epochs is None or self._forwarded + passes <= self._epochs * len(self._table)):
            self._forwarded += passes
            answer = yield self._question(perspective, decision)
            self._replace(perspective, answer.scores)

    def _question(self, perspective: Perspective, decision: int) -> Probe:
        rest = Candidate(perspective.name, perspective.rest)
        reward = self._reward
        if reward is None or perspective.name != reward.name:
            return Probe((rest,), purpose=RESORT)
        rows = sample_of(rest.rows, reward.rows, rng(self._seed, PROMPTS, decision))
        return Probe((rest, Candidate(ANSWERS, rows)), RewardGap(reward.tokens), REFRESH)

    def _passes(self, perspective: Perspective, rows: int) -> int:
        """Forward passes that sorting so many rows again takes. An answer costs about one as it is drawn, and one as it
        is read; so does reading the reference."""
        if self._reward is None or perspective.name != self._reward.name:
            return rows
        return 2 * rows + (min(self._reward.rows, rows) or rows)

    def _fewest(self) -> int:
        """The fewest visits between two sorts that keep a whole pass within ``epochs``; 0: never."""
        for period in range(1, max(len(each.cuts) for each in self._periodic) - 1):
            forwarded = sum(
                self._passes(each, len(each.rows) - cut)
                for each in self._periodic
                for cut in each.cuts[period:-1:period]
            )
            if self._epochs is None or forwarded <= self._epochs * len(self._table):
                return period
        return 0
