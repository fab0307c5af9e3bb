"""An order without a model: what a curriculum that never asks means for a table, or what a journal records."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from curricle.schemas.common.config import build, check_ranges
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.home import at_home
from curricle.schemas.common.plugins import is_file
from curricle.schemas.common.wording import counted
from curricle.train import curricula
from curricle.train.curricula.base import Probe, Stage
from curricle.train.curricula.course import Course
from curricle.train.data.domains import Domains
from curricle.train.data.table import Rows, Table, check_open, column_name
from curricle.train.ordering.batches import Budget, GlobalBatch, batches, digest_of, response_tokens
from curricle.train.ordering.journal import Header, Journal, read_journal
from curricle.train.ordering.replay import follow, recorded_course
from curricle.train.settings import BudgetSettings
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Order:
    """The rows of a table in the order of training, one entry a visit: a row may come more than once, or never.

    ``rows``: row numbers from 0, int64 (visits,). ``steps``: the optimizer step of each visit, from 0, int64 (visits,).
    ``stages``: the stage of the curriculum that each visit belongs to, from 0, int64 (visits,). ``choices``: for each
    stage the perspective that it comes from, None where there was none to choose. ``digest``: 32 hex digits of the
    example ids, step by step, which a run states in ``state/cursor.json`` of its checkpoints.
    """

    rows: Rows
    steps: NDArray[np.int64]
    stages: NDArray[np.int64]
    choices: tuple[str | None, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def batches(self) -> list[Rows]:
        """The rows of each optimizer step."""
        return np.split(self.rows, np.flatnonzero(np.diff(self.steps)) + 1)


def order(
    table: Table,
    curriculum: str = "random",
    *,
    seed: int = 0,
    batch_size: int = 32,
    budget: BudgetSettings | Mapping[str, int] | None = None,
    journal: str | Path | None = None,
    **options: Any,
) -> Order:
    """The order of a curriculum over a table, as ``curricle-train plan`` writes it. No model is needed, and no torch.

    ``table``: what ``train.open_table`` gives. ``curriculum``: a name, or ``./my.py:NAME``.
    ``options``: those of the curriculum, such as ``by="loss"``; ``curricle-train plan --curriculum NAME --help`` lists
    them. ``batch_size``: rows in an optimizer step. ``budget``: ``samples``, ``tokens`` or ``steps`` at which the order
    ends; by default it is one pass of the curriculum over the rows of the table.
    ``journal``: the ``journal.jsonl`` of a run, for the order that it took; it decides all the rest. Where its
    curriculum is a file, name that as ``curriculum`` too: its code does not run for a journal alone.

    Raises UsageError for an unknown curriculum, option or column, and for a curriculum that asks the student, such as
    CAMPUS: its order is known from a journal alone. TypeError for a path: open the table first.
    """
    check_open(table)
    if journal is not None:
        if options or budget or not (curriculum == "random" or is_file(curriculum)):
            raise UsageError("a journal decides the order", where=str(journal), remedy="leave the other options out")
        return whole_order(table, read_journal(at_home(str(journal), "train.order")), curriculum)
    if seed < 0:
        raise UsageError(f"seed is {seed}", where="train.order", remedy="give a whole number from 0")
    if isinstance(budget, BudgetSettings):
        check_ranges(budget, prefix="budget.")
    else:
        budget = build(BudgetSettings, budget or {}, "train.order", "budget.")
    return whole_order(table, header_of(table, curriculum, options, seed, batch_size, budget))


def header_of(
    table: Table, curriculum: str, options: Mapping[str, Any], seed: int, batch: int, budget: BudgetSettings
) -> Header:
    """What defines an order over a table. Without a budget it is one pass of the curriculum over its rows."""
    if budget == BudgetSettings():
        budget = replace(budget, samples=curricula.build(curriculum, options).epoch_rows(table))
    plugin = curricula.origin(curriculum)
    return Header(table.digest, table.fingerprint, curriculum, options, seed, batch, asdict(budget), plugin)


def sorted_by(header: Header, table: Table) -> list[str]:
    """The columns with a hard end that a curriculum reads; if there is none, the loss, if the table has it."""
    read = curricula.build(header.curriculum, header.options).columns()
    return [name for name in read if table.has_direction(name)] or [name for name in ("loss",) if name in table.columns]


def domains_of(header: Header, table: Table) -> Domains | None:
    """The domains that an order has to do with."""
    return curricula.build(header.curriculum, header.options).domains(table)


def whole_order(table: Table, order: Header | Journal, curriculum: str = "") -> Order:
    """The order of a curriculum that never asks, or of a journal, to its end; see ``recorded_course``."""
    visited = list(global_batches(table, order, curriculum))
    if not visited:
        raise UsageError("the order is empty", remedy="raise the budget, or name the journal of a run that has begun")
    choices = {batch.stage.index: batch.stage.choice for batch in visited}
    sizes = [len(batch.rows) for batch in visited]
    rows = np.concatenate([batch.rows for batch in visited]).astype(np.int64, copy=False)
    steps = np.repeat(np.array([batch.step for batch in visited], np.int64), sizes)
    return Order(
        rows,
        steps,
        np.repeat(np.array([batch.stage.index for batch in visited], np.int64), sizes),
        tuple(choices.get(index) for index in range(max(choices) + 1)),
        digest_of(table.ids[rows], steps),
    )


def global_batches(table: Table, order: Header | Journal, curriculum: str = "") -> Iterator[GlobalBatch]:
    """The global batches of a curriculum that never asks, or those that a journal records; see ``recorded_course``.

    UsageError, here already, for a budget without end, an option that does not fit, or a journal of another table;
    later, if the student would have to be asked.
    """
    if isinstance(order, Journal):
        return cut(table, order.header, follow(recorded_course(order, table, curriculum), order), order.budgets)
    return cut(table, order, _static(course_of(table, order), order.curriculum))


def course_of(table: Table, header: Header) -> Course:
    """The course that a header means; UsageError for an option that does not fit."""
    return Course(curricula.build(header.curriculum, header.options), table, header.seed, header.batch)


def described(table: Table, header: Header) -> str:
    """What an order will do, in words, before anything of it is known but its header and its table."""
    rows, batch = len(table), header.batch
    what = curricula.build(header.curriculum, header.options).describe(table, batch)
    steps = [counted(limit, name.removesuffix("s")) for name, limit in header.budget.items() if limit]
    if samples := header.budget["samples"]:
        fewest = counted(-(-samples // batch), "step")
        steps[0] += f" ({samples / rows:.2f} epochs, at least {fewest} of up to {counted(batch, 'row')})"
    return f"{header.curriculum} over {counted(rows, 'row')}: {what}. Budget: {', '.join(steps)}"


def remarks(table: Table, header: Header) -> Iterator[str]:
    """What of an order's options cannot matter with its table, a line each."""
    curriculum = curricula.build(header.curriculum, header.options)
    yield from curriculum.remarks(table, header.batch)
    for column in curriculum.columns():
        if table.has_direction(column):
            values = table.difficulty(column)
            if np.nanmin(values) == np.nanmax(values):
                yield f"every row has the same {column_name(column)}: an order by it is a random one"


def cut(table: Table, header: Header, stages: Iterable[Stage], budgets: Sequence[Budget] = ()) -> Iterator[GlobalBatch]:
    """The global batches of stages, to the end of a header's budget, or of several budgets of a run that was extended;
    UsageError, here already, if there is none.
    """
    budgets = budgets or [Budget(**header.budget)]
    if budgets[0] == Budget():
        raise UsageError("a plan without a budget has no end", remedy="set a budget in samples, tokens or steps")
    return batches(stages, header.batch, budgets, response_tokens(table) if budgets[0].tokens else None)


def _static(course: Course, name: str) -> Iterator[Stage]:
    while (step := course.next()) is not None:
        if isinstance(step, Stage):
            yield step
        if isinstance(step, Probe) or step.outcome:
            raise UsageError(
                f"curriculum {name!r} asks the student, so its order is not known before training",
                remedy="take the journal of a run, for an export the plan.parquet of a rehearsal (`curricle-train "
                "plan`), or a curriculum that never asks",
            )
