"""A curriculum with a student that never learns: it answers with the losses that the table holds."""

from collections.abc import Iterator

import numpy as np
from curricle.schemas.common.errors import UsageError
from curricle.train.curricula.base import Nll, Outcome, Probe, ProbeResult, Stage
from curricle.train.curricula.course import Course
from curricle.train.data.table import Table
from curricle.train.ordering.journal import Header
from curricle.train.ordering.order import course_of, cut


class Rehearsal:
    """The stages of a course whose student's loss on each row is that of column ``loss``, whatever it is trained on.

    ``needed``: whether it had to answer.
    """

    def __init__(self, course: Course, table: Table) -> None:
        self._course, self._where = course, table.where
        self._has_losses = "loss" in table.columns
        loss = table.numbers("loss") if self._has_losses else np.full(len(table), np.nan)
        self._tokens = np.where(np.isnan(loss), 0, table.counts("response_tokens"))
        self._nll = np.nan_to_num(loss) * self._tokens
        self.needed = False

    def stages(self) -> Iterator[Stage]:
        """Endless where the curriculum is. UsageError where it asks for what no column holds."""
        while (step := self._course.next()) is not None:
            if isinstance(step, Probe):
                self._course.answer(self._answer(step))
                continue
            yield step
            if step.outcome:
                self._check(True)
                self._course.report(Outcome(self._nll[step.rows], self._tokens[step.rows], step.index))

    def _answer(self, probe: Probe) -> ProbeResult:
        self._check(isinstance(probe.what, Nll) and not any(each.held_out for each in probe.candidates))
        rows = [each.rows for each in probe.candidates]
        return ProbeResult(tuple(self._nll[each] for each in rows), tuple(self._tokens[each] for each in rows))

    def _check(self, answerable: bool) -> None:
        self.needed = True
        if not (answerable and self._has_losses):
            raise UsageError(
                "the curriculum asks the student for what no column of the table holds, so its order is not known "
                "before training",
                where=self._where,
                remedy="score the table with metric loss, plan from the journal of a run, or choose a curriculum that "
                "never asks",
            )


def expected_steps(header: Header, table: Table) -> int | None:
    """The optimizer steps of an order with a student that never learns; None where no column answers what it asks.

    UsageError where its options or columns do not fit.
    """
    batches = cut(table, header, Rehearsal(course_of(table, header), table).stages())
    try:
        return sum(1 for _ in batches)
    except UsageError:  # of the rehearsal; what else does not fit was refused before
        return None
