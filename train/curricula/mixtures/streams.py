"""The rows of a domain, one after another, in an order of its own."""

from collections import deque
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
from curricle.schemas.common.errors import UsageError, UserError
from curricle.train.curricula.base import Calibration, Curriculum, Outcome, Probe, Stage, next_of
from curricle.train.curricula.mixtures.inside import in_order
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray


class Stream:
    """A curriculum over some rows of a table, which other rows stand between.

    Its questions are passed on with the row numbers of the table; the outcome of its stage is put together from what
    ``learn`` says of the rows that ``take`` gave. ``size``: rows that it has to give in a pass; ``visits``: rows that
    it gave so far; ``pending``: of them, those whose training has not been reported, if it wants to know.
    """

    def __init__(self, name: str, table: Table, rows: Rows, order: Curriculum, seed: int, batch: int) -> None:
        """``batch``: rows of it that are in a global batch."""
        self.name, self._rows = name, rows
        self._order, self._seed, self._batch = order, seed, batch
        self._table = table.take(rows)
        self._stage = Stage(np.empty(0, np.int64))
        self._next = self.visits = self.pending = 0
        self._nll: list[float] = []
        self._tokens: list[int] = []
        self.calibrations: deque[Calibration] = deque()
        try:
            self.size = int(in_order(self._table, order).sum())
            self._begin()
        except UsageError as error:
            raise UsageError(error.found, where=f"{table.where}, domain {name!r}", remedy=error.remedy) from error

    def _begin(self) -> None:
        self._steps = self._order.steps(self._table, self._seed, self._batch)
        self._ahead = next(self._steps, None)  # so that what does not fit is refused at once
        self._begun = self.visits

    @property
    def empty(self) -> bool:
        """Whether the stage is at its end."""
        return self._next == len(self._stage.rows)

    @property
    def outcome(self) -> bool:
        """Whether it wants to know the losses of what it gives now."""
        return self._stage.outcome

    @property
    def competence(self) -> dict[str, float]:
        return {f"{self.name}: {name}": share for name, share in self._stage.competence.items()}

    def refill(self) -> Generator[Probe, Any, None]:
        """Go on to a stage that has rows, where the last one is at its end."""
        reply: Any = None
        if self._stage.outcome:
            reply = Outcome(np.array(self._nll), np.array(self._tokens, np.int64))
        while self.empty:
            step = self._ahead or next_of(self._steps, reply)
            self._ahead = reply = None
            if step is None:
                if self.visits == self._begun:
                    raise UserError(
                        f"the order inside domain {self.name!r} has no row", remedy="choose another --curriculum.order"
                    )
                self._begin()
            elif isinstance(step, Probe):
                reply = yield replace(step, candidates=tuple(self._of_table(each) for each in step.candidates))
            else:
                self._stage, self._next, self._nll, self._tokens = step, 0, [], []
                self.calibrations += [step.calibration] if step.calibration else []

    def _of_table(self, candidate: Any) -> Any:
        return candidate if candidate.held_out else replace(candidate, rows=self._rows[candidate.rows])

    def take(self) -> int:
        """The next row, by its number in the table; ``refill`` first where the stage is at its end."""
        row = int(self._rows[self._stage.rows[self._next]])
        self._next, self.visits = self._next + 1, self.visits + 1
        self.pending += self._stage.outcome
        return row

    def learn(self, nll: NDArray[np.float64], tokens: NDArray[np.int64]) -> None:
        """What came of the rows that are pending, in the order in which they were taken."""
        if self._stage.outcome:
            self._nll += nll.tolist()
            self._tokens += tokens.tolist()
            self.pending -= len(nll)
