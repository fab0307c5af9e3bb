"""Which rows are trained on, which are held out to judge by, and which to choose options by."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from curricle.schemas.common.errors import UsageError
from curricle.train.data.table import FEWEST, Table, check_open, open_table
from curricle.train.settings import HELD_OUT, TUNING, PlanSettings, TrainSettings
from numpy.typing import NDArray

SUBSET = 1 << 62
"""Added to a seed, so that a subset is not drawn by the hash that holds rows out or breaks ties."""


@dataclass(frozen=True)
class Split:
    """The rows to ``train`` on, and by name the tables that are ``held_out`` to judge by and for ``tuning``."""

    train: Table
    held_out: Mapping[str, Table]
    tuning: Mapping[str, Table]


def split(settings: TrainSettings | PlanSettings, seed: int) -> Split:
    """The parts of the table that settings name, and the other tables that they evaluate on.

    What is held out rests on ids and ``eval.seed``; a ``subset`` rests on ids and ``seed``, that of the run. Rows with
    equal ids are all on one side: where they stand at the boundary, more rows are held out than asked for. One row may
    be held out; UsageError where fewer than two are left to train on.
    """
    table, how = open_table(settings.data, settings.join), settings.eval
    held_out, tuning = _opened(how.data), _opened(how.tuning)
    if how.rows and not held_out:
        table, held_out[HELD_OUT] = hold_out(table, how.rows, how.seed)
    if how.tuning_rows and not tuning:
        table, tuning[TUNING] = hold_out(table, how.tuning_rows, how.seed, "--eval.tuning-rows")
    if settings.subset:
        table = _subset(table, settings.subset, seed)
    for option, paths, sets in (("data", how.data, held_out), ("tuning", how.tuning, tuning)):
        for name in paths:
            if both := int(np.isin(_comparable(table), _comparable(sets[name])).sum()):
                flag = f"--eval.{option}" + (f" {name}" if len(paths) > 1 else "")
                table.notes.append(f"{both:,} of {len(table):,} rows to train on stand in {flag} as well")
    asked = tuning or held_out  # what a curriculum may ask about is not what it is judged by, where there is both
    if len(asked) == 1:
        (table.held_out,) = asked.values()
    return Split(table, held_out, tuning)


def _opened(paths: Mapping[str, Path]) -> dict[str, Table]:
    return {name: open_table(path, fewest=1) for name, path in paths.items()}


def hold_out(table: Table, rows: int, seed: int = 0, flag: str = "--eval.rows") -> tuple[Table, Table]:
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
            f"{flag} {rows} leaves {left or 'none'} of {len(order)} rows to train on",
            where=table.where,
            remedy="hold out fewer: an order needs two rows, and rows with one example_id are held out together",
        )
    trained, held_out = table.take(np.sort(order[held:])), table.take(np.sort(order[:held]))
    trained.held_out = held_out
    return trained, held_out


def _subset(table: Table, rows: int, seed: int) -> Table:
    if not FEWEST <= rows <= len(table):
        raise UsageError(
            f"--subset is {rows:,}, and there are {len(table):,} rows to train on",
            where=table.where,
            remedy=f"give {FEWEST} to {len(table):,}, or leave it out to train on all",
        )
    return table.take(np.sort(table.tie_order(SUBSET + seed)[:rows]))


def _comparable(table: Table) -> NDArray[np.void]:
    """The ids as one value each: bytes (rows,)."""
    return np.ascontiguousarray(table.ids).view("V16")[:, 0]
