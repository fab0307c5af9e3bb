"""Which rows are trained on and which are held out."""

import numpy as np
from curricle.schemas.common.errors import UsageError
from curricle.train.data.table import FEWEST, Table, check_open, open_table
from curricle.train.settings import PlanSettings, TrainSettings
from numpy.typing import NDArray


def split(settings: TrainSettings | PlanSettings) -> tuple[Table, Table | None]:
    """The rows to train on, and those held out. The split rests on their ids and ``eval.seed``, on nothing else.

    Rows with equal ids are all on one side: where they stand at the boundary, more rows are held out than asked for.
    One row may be held out; UsageError where fewer than two are left to train on.
    """
    table = open_table(settings.data, settings.join)
    if settings.eval.data is not None:
        held_out = open_table(settings.eval.data, fewest=1)
        if both := int(np.isin(_comparable(table), _comparable(held_out)).sum()):
            table.notes.append(f"{both:,} of {len(table):,} rows to train on stand in --eval.data as well")
        table.held_out = held_out
        return table, held_out
    if not settings.eval.rows:
        return table, None
    return hold_out(table, settings.eval.rows, settings.eval.seed)


def hold_out(table: Table, rows: int, seed: int = 0) -> tuple[Table, Table]:
    """Two tables: the rows to train on, and at least ``rows`` that are held out, as ``--eval.rows`` parts them.

    Rows with one ``example_id`` are on one side. Raises UsageError where fewer than two are left to train on.
    """
    check_open(table)
    order = table.tie_order(seed)  # equal ids have equal hashes, and so stand side by side
    held = min(rows, len(order))
    while held < len(order) and (table.ids[order[held]] == table.ids[order[held - 1]]).all():
        held += 1
    left = len(order) - held
    if left < FEWEST:
        raise UsageError(
            f"--eval.rows {rows} leaves {left or 'none'} of {len(order)} rows to train on",
            where=table.where,
            remedy="hold out fewer: an order needs two rows, and rows with one example_id are held out together",
        )
    trained, held_out = table.take(np.sort(order[held:])), table.take(np.sort(order[:held]))
    trained.held_out = held_out
    return trained, held_out


def _comparable(table: Table) -> NDArray[np.void]:
    """The ids as one value each: bytes (rows,)."""
    return np.ascontiguousarray(table.ids).view("V16")[:, 0]
