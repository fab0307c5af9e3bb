"""What ``--order`` names: a curriculum, a run's journal, a plan, a column of the table, or the table as it lies."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.plugins import is_file
from curricle.schemas.sums import sha256_of
from curricle.train.curricula import CURRICULA, PLUGINS
from curricle.train.data.holdout import split
from curricle.train.data.parquet import id_bytes, whole_ids
from curricle.train.data.table import Rows, Table, column_name, open_table
from curricle.train.ordering.batches import digest_of
from curricle.train.ordering.journal import JOURNAL, Journal
from curricle.train.ordering.order import Order, described, remarks, whole_order
from curricle.train.ordering.plan import PLAN_FILE, rows_and_order
from curricle.train.settings import BudgetSettings, PlanSettings
from curricle.train.settings.export import ExportSettings
from numpy.typing import NDArray

AS_IT_LIES = "table"
ORDER_FILE = "order.parquet"


@dataclass(frozen=True)
class TableOrder:
    """An order over a table. ``source``: where it is from, as JSON. ``left_out``: rows of the table that the order may
    not have, by the option that says so. ``notes``: what a person should know of it.
    """

    table: Table
    order: Order
    source: Mapping[str, Any]
    left_out: Mapping[str, int]
    notes: tuple[str, ...]


def order_of(settings: ExportSettings) -> TableOrder:
    """The order that settings name, over the rows that are not held out. UsageError where there is none."""
    name = settings.order
    path = _file_of(Path(name))
    if path is not None and path.name == JOURNAL:
        return _curriculum(settings, path)
    if path is not None:
        return _planned(settings, path)
    if name in CURRICULA or is_file(name):
        return _curriculum(settings, None)
    if settings.order_options and name == AS_IT_LIES:
        raise UsageError("the order of the table has no options", remedy="leave --order.KEY out")
    options = _plan_settings(settings)
    parts = split(options, settings.seed)
    table = parts.train
    if name == AS_IT_LIES:
        rows, words = np.arange(len(table), dtype=np.int64), "the rows as they lie in the table"
    elif column_name(name) in table.columns:
        if settings.order_options:
            raise UsageError(
                "a column has no options",
                remedy=f"give --order {name}:low for hard at the low end, or --order sorted --order.by {name} with "
                "options of that curriculum",
            )
        rows, words = table.order(name, settings.seed), f"easy to hard by {name}; ties by a seeded hash"
    else:
        near = get_close_matches(column_name(name), [*CURRICULA, *PLUGINS.names(), *table.columns], n=1)
        if near and near[0] in table.columns:
            meant = f"did you mean {near[0]!r}?"
            raise UsageError(f"{name!r} is no curriculum and no column", where="--order", remedy=meant)
        return _curriculum(settings, None)  # a plug-in that is installed, or an error that names what there is
    if settings.budget != BudgetSettings():
        remedy = f"leave it out, or give --order sorted --order.by {name}"
        raise UsageError("the rows of a table or a column are one epoch, without a budget", remedy=remedy)
    order = cut_into_steps(table, rows, settings.batch.size)
    source = {"from": "table" if name == AS_IT_LIES else "column", "name": name, "seed": settings.seed}
    return TableOrder(table, order, {**source, "batch": settings.batch.size}, parts.left_out, (words, *table.notes))


def cut_into_steps(table: Table, rows: Rows, batch: int) -> Order:
    """An order of these rows in steps of ``batch``, as trainers cut them, and as one stage."""
    if not len(rows):
        raise UsageError("the order is empty", remedy="name another column: no row has a score in this one")
    return _order(table, rows, np.arange(len(rows)) // batch, np.zeros(len(rows), np.int64), (None,))


def _order(table: Table, rows: Rows, steps: Rows, stages: Rows, choices: tuple[str | None, ...]) -> Order:
    return Order(rows, steps, stages, choices, digest_of(table.ids[rows], steps))


def _file_of(path: Path) -> Path | None:
    """The file that an order is in, if its name is a path; a directory is that of a run, a plan or an export."""
    if path.is_dir():
        names = (JOURNAL, ORDER_FILE, PLAN_FILE)
        there = next((path / name for name in names if (path / name).is_file()), None)
        if there is None:
            raise UsageError(f"there is no {', '.join(names)} here", where=str(path), remedy="name a run, or a plan")
        return there
    if path.suffix not in (".parquet", ".jsonl"):
        return None
    if not path.is_file():
        raise UsageError("there is no such file", where=str(path), remedy="check the path of the order")
    if path.suffix == ".jsonl" and path.name != JOURNAL:
        raise UsageError(
            f"is no {JOURNAL} of a run and no Parquet file of an order",
            where=str(path),
            remedy=f"name a run, a {JOURNAL}, or a {PLAN_FILE} that `curricle-train plan` wrote",
        )
    return path


def _plan_settings(settings: ExportSettings, **more: Any) -> PlanSettings:
    names = ("output", "join", "seed", "leave_out", "subset", "budget", "batch", "eval")
    return PlanSettings(data=settings.table, **{name: getattr(settings, name) for name in names}, **more)


def _curriculum(settings: ExportSettings, journal: Path | None) -> TableOrder:
    if journal is None:
        options = _plan_settings(settings, curriculum=settings.order, curriculum_options=settings.order_options)
    else:
        options = _plan_settings(settings, journal=journal, curriculum=settings.curriculum)
    parts, header = rows_and_order(options)
    table, of_run = parts.train, isinstance(header, Journal)
    order = whole_order(table, header, options.curriculum)
    first = replace(header.header, budget=asdict(header.budgets[-1])) if isinstance(header, Journal) else header
    source = {
        "from": "journal" if of_run else "curriculum",
        "name": first.curriculum,
        "options": dict(first.options),
        "seed": first.seed,
        "batch": first.batch,
        "budget": dict(first.budget),
        **({"plugin": dict(first.plugin)} if first.plugin else {}),
    }
    ours = not first.plugin
    notes = (described(table, first) if ours else first.curriculum, *table.notes)
    return TableOrder(table, order, source, parts.left_out, (*notes, *(remarks(table, first) if ours else ())))


def _planned(settings: ExportSettings, path: Path) -> TableOrder:
    """The order of a Parquet file: of ``example_id``, and of ``row``, ``step`` and ``stage`` where it has them."""
    absent = PlanSettings(output=settings.output)
    names = ("leave_out", "subset", "budget", "eval")
    others = [name for name in names if getattr(settings, name) != getattr(absent, name)]
    if others or settings.order_options:
        raise UsageError(
            f"the rows are those of {path.name}",
            where=str(path),
            remedy="leave --" + ", --".join(others or ["order.KEY"]).replace("_", "-") + " out, or plan again with it",
        )
    table = open_table(settings.table, settings.join)
    try:
        plan = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"cannot be read: {error}", where=str(path), remedy="name a plan, or plan again") from error
    if "example_id" not in plan.column_names:
        raise UsageError(
            "has no column example_id", where=str(path), remedy=f"name a {PLAN_FILE} of `curricle-train plan`"
        )
    if not len(plan):
        raise UsageError("the order is empty", where=str(path), remedy="plan again with a larger budget")
    ids = id_bytes(plan["example_id"].combine_chunks())
    rows = rows_of(table, ids, plan, path)
    steps, stages = (_whole_numbers(plan, name) for name in ("step", "stage"))
    if steps is None:
        order = cut_into_steps(table, rows, settings.batch.size)
    else:
        if stages is None or stages.min() < 0 or stages.max() >= len(stages):  # of another program
            stages = np.zeros(len(rows), np.int64)
        order = _order(table, rows, steps, stages, _choices(plan, stages))
    source = {"from": "plan", "name": path.name, "sha256": sha256_of(path)}
    return TableOrder(table, order, source, {}, (f"the order of {path}", *table.notes))


def rows_of(table: Table, ids: NDArray[np.uint8], plan: pa.Table, path: Path) -> Rows:
    """Which rows of the table an order visits. UsageError where it is an order over another table."""
    remedy = "name the table that the order was made over, or plan again"
    rows = _whole_numbers(plan, "row")
    if rows is None:
        theirs = whole_ids(ids)
        unique, first = np.unique(whole_ids(table.ids), return_index=True)  # of rows with one id any is as good
        index = np.minimum(np.searchsorted(unique, theirs), len(unique) - 1)
        absent = np.flatnonzero(unique[index] != theirs)
        rows = first[index]
    else:
        inside = (rows >= 0) & (rows < len(table))
        same = (table.ids[np.where(inside, rows, 0)] == ids).all(axis=1)
        absent = np.flatnonzero(~(inside & same))
    if len(absent):
        at, identity = int(absent[0]), ids[absent[0]].tobytes().hex()
        raise UsageError(
            f"entry {at:,} is the row of id {identity}, which the table does not have there "
            f"({len(absent):,} of {len(ids):,} are such)",
            where=str(path),
            remedy=remedy,
        )
    return rows.astype(np.int64)


def _whole_numbers(plan: pa.Table, name: str) -> Rows | None:
    if name not in plan.column_names:
        return None
    column = plan[name]
    if column.null_count or not pa.types.is_integer(column.type):
        raise UsageError(f"column {name!r} holds {column.type} or nulls", remedy="plan again")
    return column.to_numpy().astype(np.int64)


def _choices(plan: pa.Table, stages: Rows) -> tuple[str | None, ...]:
    if "choice" not in plan.column_names:
        return (None,) * (int(stages.max()) + 1)
    by_stage = dict(zip(stages.tolist(), plan["choice"].to_pylist(), strict=True))
    return tuple(by_stage.get(stage) for stage in range(int(stages.max()) + 1))
