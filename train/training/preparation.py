"""Before a model is loaded: everything about a run that can be refused without one, and without torch."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from curricle.schemas.common.disk import check_writable
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import bytes_in_words
from curricle.train import curricula
from curricle.train.curricula.course import Course
from curricle.train.data.holdout import Split, split
from curricle.train.data.table import Table
from curricle.train.extras import check_extras
from curricle.train.model.locate import check_name, identify, parameters
from curricle.train.ordering.batches import Budget, response_tokens
from curricle.train.ordering.journal import (
    JOURNAL,
    Header,
    Journal,
    JournalEntry,
    Recording,
    as_begun,
    read_journal,
    read_recording,
)
from curricle.train.ordering.order import header_of, remarks
from curricle.train.ordering.replay import recorded_course
from curricle.train.records.checkpoints import Cursor, checkpoints, read_cursor
from curricle.train.records.metrics import read_metrics
from curricle.train.records.run_json import Description, read_description, rows_digest_of
from curricle.train.settings import RunSettings, TrainSettings
from numpy.typing import NDArray


@dataclass
class Preparation:
    """A run that is to begin, or to go on. ``header``: what defines its order, over ``split.train``.

    ``recording``: what its journal holds so far; ``replayed``: the records of another run that it follows.
    ``budgets``: that which the run began with, and larger ones that it was extended to; the last one holds.
    ``tokens``: response tokens of each row, int64 (rows,), for a budget in tokens. ``before``: what ``run.json`` says,
    ``reported``: the lines of its metrics. ``resumed``: the last checkpoint, which has come as far as ``cursor``.
    """

    settings: RunSettings
    split: Split
    header: Header
    recording: Recording
    replayed: Sequence[JournalEntry]
    budgets: list[Budget]
    tokens: NDArray[Any] | None
    course: Course
    description: Description
    before: dict[str, Any]
    reported: list[dict[str, Any]]
    resumed: Path | None
    cursor: Cursor

    @property
    def table(self) -> Table:
        """The rows to train on."""
        return self.split.train

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        finished = self.resumed is not None and self.before.get("finished") == self.cursor.step
        return finished and not self.is_extended

    @property
    def is_extended(self) -> bool:
        """Whether it goes on with a larger budget than it had before."""
        return self.recording.header is not None and len(self.budgets) > len(self.recording.budgets)


def prepare(settings: RunSettings) -> Preparation:
    """Read what a run rests on. UsageError for what is wrong with it, before anything is written."""
    if read_description(settings.output).get("finished") is None:
        check_writable(settings.output)
    check_extras(settings)
    check_name(settings.model)
    if not settings.replay:
        curricula.build(settings.curriculum, settings.curriculum_options)
    replay = read_journal(settings.replay) if settings.replay else None
    if replay:
        parts = split(settings, replay.header.seed, replay.header.table)
    else:
        parts = split(settings, settings.seed, rows_digest_of(settings.output))
    table = parts.train
    table.check_texts()
    recording = read_recording(settings.output / JOURNAL)
    header = (
        replace(replay.header, budget=asdict(replay.budgets[-1]))
        if replay
        else as_begun(order_of(settings, table), recording)
    )
    budgets = replay.budgets if replay else recording.extended(Budget(**header.budget))
    tokens = response_tokens(table) if budgets[0].tokens else None
    course = recorded_course(Journal(header), table, settings.curriculum)
    description = Description.of(
        settings, table, identify(settings.model), plugin=header.plugin, left_out=parts.left_out
    )
    before = description.before()
    if before.get("finished") is None:
        table.notes += disk_note(settings)
    table.notes += [*idle_options(settings), *remarks(table, header)]
    recording.check(header)
    saved = checkpoints(settings.output)
    return Preparation(
        settings,
        parts,
        header,
        recording,
        replay.records if replay else [],
        budgets,
        tokens,
        course,
        description,
        before,
        read_metrics(settings.output),
        saved[-1] if saved else None,
        read_cursor(saved[-1]) if saved else Cursor(),
    )


def disk_note(settings: TrainSettings, runs: int = 1, jobs: int = 1) -> Iterator[str]:
    """How much of the disk checkpoints will take, as far as the model's files say; UsageError if not one has room.

    ``runs``: how many there are, each of which keeps some; ``jobs`` of them at a time write one more.
    """
    numbers = parameters(settings.model)
    if numbers is None:
        return
    size = 4 * numbers * (1 if settings.lora.rank else 3)  # weights, and two moments of what is trained
    output, keep = settings.output.absolute(), settings.checkpoint.keep
    there = sum(path.stat().st_size for path in output.rglob("checkpoints/step-*/**/*") if path.is_file())
    needed = max(0, size * (runs * keep + jobs) - there)
    free = shutil.disk_usage(next(path for path in (output, *output.parents) if path.exists())).free
    if not there and free < size:
        raise UsageError(
            f"a checkpoint takes about {bytes_in_words(size)}, and {bytes_in_words(free)} are free",
            where=str(output),
            remedy="free space, or name another --output",
        )
    stay = f"{keep} of each of {runs} runs" if runs > 1 else f"the last {keep}"
    yield (
        f"checkpoints take about {bytes_in_words(size)} each; {stay} stay, and one is written beside them: "
        f"{bytes_in_words(needed)} more at most, of {bytes_in_words(free)} that are free"
        + ("; lower --checkpoint.keep, or free space" if free < needed else "")
    )


def idle_options(settings: RunSettings) -> Iterator[str]:
    """Options that are given and cannot matter beside the others, a line each."""
    how, held_out = settings.optimizer, settings.eval
    judged = held_out.rows or held_out.data or held_out.tuning_rows or held_out.tuning
    alone = settings.device.nproc == 1 and os.environ.get("WORLD_SIZE", "1") == "1"
    for idle, group, names, why in (
        (not settings.lora.rank, "lora", ("alpha", "dropout", "targets"), "without --lora.rank"),
        (how.schedule != "wsd", "optimizer", ("decay",), "without --optimizer.schedule wsd"),
        (how.schedule == "constant", "optimizer", ("floor",), "with --optimizer.schedule constant"),
        (not judged, "eval", ("every",), "without rows to evaluate on: --eval.rows or --eval.data"),
        (not (held_out.rows or held_out.tuning_rows), "eval", ("seed",), "without --eval.rows"),
        (not held_out.generations, "eval", ("generation_tokens",), "without --eval.generations"),
        (alone, "device", ("parallel",), "with one process"),
        (settings.replay is not None, "budget", ("samples", "tokens", "steps"), "with --replay: the journal decides"),
    ):
        options = getattr(settings, group)
        given = [name for name in names if getattr(options, name) != getattr(type(options)(), name)]
        if idle and given:
            flags = [f"--{group}.{name.replace('_', '-')}" for name in given]
            yield f"{', '.join(flags)}: of no use {why}"


def order_of(settings: RunSettings, table: Table) -> Header:
    """What defines the order of a run. Without a budget it is one epoch."""
    return header_of(
        table,
        settings.curriculum,
        settings.curriculum_options,
        settings.seed,
        settings.batch.size,
        settings.budget,
    )
