"""What a run would do and take: its own rows, trained on for a moment; nothing is written."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice

import numpy as np
import torch
from curricle.schemas.common.dry_run import NOTHING_WRITTEN, SECONDS, Interval, PeakMemory
from curricle.train.data.batching import micro_batches
from curricle.train.data.encoding import Encoded
from curricle.train.distributed import Processes
from curricle.train.ordering.rehearsal import expected_steps
from curricle.train.settings import EvalSettings
from curricle.train.training.loop import Loop, loaded
from curricle.train.training.preparation import Preparation

_ROWS = 64
"""Rows whose tokens are counted, and that are trained on as long as there is time."""
_FORWARD = 1 / 3
"""Of what it takes to train on a token: to look at it alone."""


@dataclass(frozen=True)
class Speed:
    """``row``: seconds to train on a row; ``step``: of the optimizer; ``tokens``: of a row."""

    row: Interval
    step: float
    tokens: Interval
    sampled: int
    loading: float
    memory: PeakMemory

    def seconds(self, steps: int, batch: int, judged: int, evaluations: int) -> Interval:
        """Of so many steps of so many rows, and evaluations of so many held-out rows."""
        own = Interval(self.step, self.step) * steps
        return self.row * (steps * batch + _FORWARD * judged * evaluations) + own


def run(prepared: Preparation, processes: Processes) -> Iterator[str]:
    """What ``curricle-train run`` would do, as lines."""
    settings, table, done = prepared.settings, prepared.table, prepared.cursor.step
    if prepared.finished:
        yield f"the run is finished: there is nothing left to do after step {done:,}"
        yield NOTHING_WRITTEN
        return
    batch = prepared.header.batch
    steps = expected_steps(replace(prepared.header, budget=asdict(prepared.budgets[-1])), table)
    guess = steps is None
    steps = steps if steps is not None else steps_by_budget(prepared)
    speed = measured(prepared, processes)
    judged = judged_rows(prepared)
    yield f"rows: {len(table):,} to train on, {judged:,} held out"
    yield f"tokens: {(speed.tokens * len(table)).count} in the rows to train on, by a sample of {speed.sampled} rows"
    remark = ", by the budget: the order follows the student's answers" if guess else ""
    yield f"optimizer steps: {steps:,} of {batch:,} rows{remark}"
    if done:
        yield f"resumed: {done:,} steps are in the last checkpoint, {max(0, steps - done):,} are left"
    every = settings.eval.every
    evaluations = 1 + ((steps - 1) // every - done // every if every else 0)
    yield from costs(speed, speed.seconds(max(0, steps - done), batch, judged, evaluations), settings.device.nproc)
    yield from generations(settings.eval)
    yield from table.notes
    yield NOTHING_WRITTEN


def costs(speed: Speed, seconds: Interval, processes: int) -> Iterator[str]:
    several = f" in one process; {processes} with a device each take about a {processes}th" if processes > 1 else ""
    yield f"time: {seconds.time}{several}, after {speed.loading:.0f} s to load, by {speed.sampled} rows trained on here"
    yield speed.memory.line()


def generations(how: EvalSettings) -> Iterator[str]:
    if how.generations:
        yield (
            f"answers: to {how.generations:,} held-out prompts at each evaluation, of at most "
            f"{how.generation_tokens:,} tokens; that time does not count them"
        )


def steps_by_budget(prepared: Preparation) -> int:
    budget, rows = prepared.budgets[-1], len(prepared.table)
    if budget.steps:
        return budget.steps
    samples = budget.samples or rows
    if budget.tokens and prepared.tokens is not None:
        samples = round(rows * budget.tokens / max(1, int(prepared.tokens.sum())))
    return -(-samples // prepared.header.batch)


def judged_rows(prepared: Preparation) -> int:
    sets = (*prepared.split.held_out.values(), *prepared.split.tuning.values())
    return sum(len(table) for table in sets)


def measured(prepared: Preparation, processes: Processes) -> Speed:
    """Load the model as the run does, and train on some rows; the weights go with this process."""
    began = time.monotonic()
    with loaded(prepared, processes) as loop:
        loading = time.monotonic() - began
        rows = random.Random(0).sample(range(len(loop.table)), min(_ROWS, len(loop.table)))
        documents = loop.documents.encode(loop.table, np.array(rows))
        tokens = Interval.of_mean([len(each) for each in documents])
        per_row = _seconds(loop, [each for each in documents if len(each.scored)] or documents)
        began = time.monotonic()
        loop.optimizer.step()
        _wait()
        step = time.monotonic() - began
    return Speed(Interval.of_parts(per_row), step, tokens, len(documents), loading, PeakMemory.until_now())


def _seconds(loop: Loop, documents: Sequence[Encoded]) -> list[float]:
    """Seconds a row, of two parts of these as far as there is time, after a first row or two that are not counted."""
    first = _backward(loop, documents[:2])
    rest = documents[2:] if len(documents) > 3 else documents
    affordable = max(2, min(len(rest), int(SECONDS / max(first, 1e-4))))
    part = max(1, affordable // 2)
    return [_backward(loop, rest[start : start + part]) for start in islice(range(0, len(rest), part), 2)]


def _backward(loop: Loop, documents: Sequence[Encoded]) -> float:
    began, how = time.monotonic(), loop.settings.batch
    for micro in micro_batches(documents, how.tokens, 1, how.packing, loop.student.alike)[0]:
        loop.student.nll(micro).sum().backward()
    _wait()
    return (time.monotonic() - began) / len(documents)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
