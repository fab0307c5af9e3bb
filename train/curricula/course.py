"""One run of a curriculum over a table: its steps are asked for one by one, checked, and answered.

What a curriculum of others does wrong is said here, with its name and what it was at.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from curricle.schemas.common.errors import UserError
from curricle.train.curricula.base import Curriculum, Decision, Outcome, Probe, ProbeResult, Stage, next_of
from curricle.train.data.table import Rows, Table

IDLE = 1000
"""Stages without a row, one after another, that a curriculum may yield before it is taken to be stuck."""


@contextmanager
def _blamed(curriculum: Curriculum, at: str) -> Iterator[None]:
    """What goes wrong inside a curriculum of others, as an error that names it and what it was at."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        kind = type(curriculum)
        if kind.__module__.startswith(f"{__package__}."):
            raise
        raise UserError(
            f"failed: {type(error).__name__}: {error}".removesuffix(": "),
            where=f"curriculum {kind.__name__}, {at}",
            remedy="mend the curriculum",
        ) from error


class Course:
    """One run of a curriculum over a table.

    ``next`` gives a probe, a stage, or None at the end. After a probe comes exactly one ``answer`` (from the student)
    or ``replay`` (from a journal), and after a stage that asks for its outcome exactly one ``report``. Else, and where
    the curriculum names a row that is not there, UserError.
    """

    def __init__(self, curriculum: Curriculum, table: Table, seed: int, batch: int) -> None:
        """``batch``: rows in a global batch. Checks options and columns; UsageError if they do not fit."""
        self._curriculum, self._table, self._seed = curriculum, table, seed
        with _blamed(curriculum, "its first step"):
            self._steps = curriculum.steps(table, seed, batch)
            self._ahead: Probe | Stage | None = next(self._steps, None)  # the first step alone is computed ahead
            columns = curriculum.columns()
            if isinstance(columns, str):
                raise TypeError(f"columns() is the text {columns!r}, and not a tuple of names")
        table.check_columns(columns)  # what a curriculum itself refuses has better words
        self._started = False
        self._pending: Probe | Stage | None = None
        self._reply: Decision | Outcome | None = None
        self._probes = self._stages = self._idle = 0

    def next(self) -> Probe | Stage | None:
        """The next step; None when the curriculum has ended."""
        if self._pending is not None:
            raise self._misused(f"{type(self._pending).__name__.lower()} {self._pending.index} waits to be answered")
        if self._started:
            with _blamed(self._curriculum, f"after {self._probes} probes and {self._stages} stages"):
                self._ahead = next_of(self._steps, self._reply)
        self._started, self._reply = True, None
        step = self._ahead
        if isinstance(step, Probe):
            for candidate in step.candidates:
                self._check_rows(candidate.rows, self._table.held_out if candidate.held_out else self._table)
            step = self._pending = replace(step, index=self._probes)
            self._probes += 1
            self._idle = 0
        elif isinstance(step, Stage):
            self._check_rows(step.rows, self._table)
            self._check_moves(step)
            step = replace(step, index=self._stages)
            self._pending = step if step.outcome else None
            self._stages += 1
        elif step is not None:
            raise UserError(
                f"the curriculum yields a {type(step).__name__}",
                where=type(self._curriculum).__name__,
                remedy="mend the curriculum: it is to yield a Stage or a Probe",
            )
        return step

    def _misused(self, found: str) -> UserError:
        return UserError(
            found,
            where=f"course of {type(self._curriculum).__name__}",
            remedy="give each probe one answer, each stage that asks for its outcome one report, and no other step any",
        )

    def _check_moves(self, stage: Stage) -> None:
        """UserError for stages without rows that have no end: no budget would ever be spent."""
        self._idle = 0 if len(stage.rows) else self._idle + 1
        if self._idle > IDLE:
            raise UserError(
                f"the curriculum yields {self._idle:,} stages without a row, one after another",
                where=type(self._curriculum).__name__,
                remedy="mend the curriculum: it is to return where there is nothing more to train on",
            )

    def _check_rows(self, rows: Rows, table: Table) -> None:
        if not (isinstance(rows, np.ndarray) and rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer)):
            is_a = f"an array {rows.dtype}{rows.shape}" if isinstance(rows, np.ndarray) else f"a {type(rows).__name__}"
            raise UserError(
                f"the curriculum names rows by {is_a}",
                where=f"{type(self._curriculum).__name__}, {table.where}",
                remedy="mend the curriculum: rows are a NumPy array of integers, of one dimension; "
                "np.flatnonzero makes them of a mask",
            )
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(table)):
            raise UserError(
                f"the curriculum names rows {rows.min()} to {rows.max()}, and the table has {len(table)} rows",
                where=f"{type(self._curriculum).__name__}, {table.where}",
                remedy="mend the curriculum: rows count from 0",
            )

    def answer(self, result: ProbeResult) -> Decision:
        """Decide on what the student answered; the decision is to be journalled before anything is trained."""
        if not isinstance(self._pending, Probe):
            raise self._misused("no probe waits for an answer")
        with _blamed(self._curriculum, f"its decision {self._pending.index}"):
            decision = self._curriculum.decide(self._pending, result, self._seed)
            if not isinstance(decision, Decision):
                raise TypeError(f"decide returned {type(decision).__name__}, and not a Decision")
        self.replay(decision)
        return decision

    def replay(self, decision: Decision) -> None:
        """Take a decision that was made before; UserError if it answers another question."""
        probe = self._pending
        if not isinstance(probe, Probe):
            raise self._misused("no probe waits for a decision")
        if probe.question != (decision.what, decision.purpose, decision.candidates, decision.digest):
            raise UserError(
                f"the journal's decision {probe.index} answers another question than the curriculum asks now",
                remedy="use the table, the curriculum options and the seed that the journal was written with",
            )
        self._pending, self._reply = None, decision

    def report(self, outcome: Outcome) -> None:
        """What came of the stage that asks for it; UserError if it is that of another one."""
        stage = self._pending
        if not isinstance(stage, Stage):
            raise self._misused("no stage waits for its outcome")
        if (stage.index, len(stage.rows), len(stage.rows)) != (outcome.index, len(outcome.nll), len(outcome.tokens)):
            raise UserError(
                f"an outcome of stage {outcome.index} with {len(outcome.nll)} rows is not that of stage {stage.index}, "
                f"which has {len(stage.rows)}",
                remedy="use the table, the curriculum options and the seed that the journal was written with",
            )
        self._pending, self._reply = None, outcome
