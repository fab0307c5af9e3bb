"""CAMPUS's stages with rows at random: what its orders and choices are worth beside the cutting alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from curricle.train.curricula.base import Decision, Outcome, Probe, ProbeResult, Stage, Steps, next_of, rng
from curricle.train.curricula.campus.curriculum import Campus
from curricle.train.curricula.random import Random
from curricle.train.data.table import Rows, Table

ANSWERS = 9  # what random numbers are for, so that two uses never share a stream


@dataclass(frozen=True)
class RandomStages(Campus):
    """Random order in stages as long as those of CAMPUS: the rows are those of `random` with the same seed.

    CAMPUS is rehearsed with random answers instead of the student's, and its options are those of `campus`.
    Nobody is asked. A control: whatever this order is better or worse than `random` by, CAMPUS owes to where its
    stages, and with them its batches, begin and end.
    """

    ABSENT: ClassVar[dict[str, Any]] = {}

    def describe(self, table: Table, batch: int) -> str:
        return "random order, in stages as long as those of CAMPUS, which is rehearsed without a student"

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        rehearsal, draw = super().steps(table, seed, batch), rng(seed, ANSWERS)
        rows = _random_rows(table, seed, batch)
        reply: Decision | Outcome | None = None
        while (step := next_of(rehearsal, reply)) is not None:
            if isinstance(step, Probe):
                reply = self.decide(step, _answer(step, draw), seed)
                continue
            chosen = np.fromiter(islice(rows, len(step.rows)), np.int64, len(step.rows))
            yield replace(step, rows=chosen, choice=None, competence={}, outcome=False, calibration=None)
            reply = Outcome(*_losses(step.rows, draw), step.index) if step.outcome else None


def _random_rows(table: Table, seed: int, batch: int) -> Iterator[int]:
    """Row numbers without end, as `random` visits them."""
    for step in Random().steps(table, seed, batch):
        assert isinstance(step, Stage)
        yield from step.rows.tolist()


def _answer(probe: Probe, draw: np.random.Generator) -> ProbeResult:
    nll, tokens = zip(*(_losses(candidate.rows, draw) for candidate in probe.candidates), strict=True)
    return ProbeResult(nll, tokens, draw.random(len(probe.candidates[0].rows)))


def _losses(rows: Rows, draw: np.random.Generator) -> tuple[Any, Any]:
    """A loss of one token for each row, around 1 nat."""
    return draw.uniform(0.5, 1.5, len(rows)), np.ones(len(rows), np.int64)
