"""Which rows are trained on, which are held out to judge by, and which to choose options by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import counted
from curricle.schemas.manifest import CERTIFICATE
from curricle.train.data.near_duplicates import near_duplicates
from curricle.train.data.parquet import whole_ids
from curricle.train.data.table import FEWEST, Table, check_open, open_table
from curricle.train.settings import HELD_OUT, TUNING, PlanSettings, TrainSettings
from numpy.typing import NDArray

SUBSET = 1 << 62
"""Added to a seed, so that a subset is not drawn by the hash that holds rows out or breaks ties."""


@dataclass(frozen=True)
class Split:
    """The rows to ``train`` on, and by name the tables that are ``held_out`` to judge by and for ``tuning``.

    ``left_out``: how many rows of the table are not trained on because they stand in another that is named, by the
    option that names it, or because they are nearly the same as one that is held out.
    """

    train: Table
    held_out: Mapping[str, Table]
    tuning: Mapping[str, Table]
    left_out: Mapping[str, int]


def split(settings: TrainSettings | PlanSettings, seed: int, begun: str | None = None) -> Split:
    """The parts of the table that settings name, and the other tables that they evaluate on.

    No row is trained on whose id stands in a table that is evaluated on, or that ``leave_out`` names. What is held out
    of the table rests on ids and ``eval.seed``; a ``subset`` rests on ids and ``seed``, that of the run. Rows with
    equal ids are all on one side: where they stand at the boundary, more rows are held out than asked for. One row may
    be held out; UsageError where fewer than two are left to train on.

    ``begun``: the digest of the rows that a run trained on before. Earlier versions did train on rows of tables that
    they evaluated on, and said so; such a run goes on as it was begun.
    """
    if begun is not None and (settings.eval.data or settings.eval.tuning):
        before = _parted(settings, seed, leave_out=False)
        if before.train.digest == begun:
            return before
    return _parted(settings, seed, leave_out=True)


def _parted(settings: TrainSettings | PlanSettings, seed: int, leave_out: bool) -> Split:
    assert settings.data is not None
    table, how, notes, left_out = open_table(settings.data, settings.join), settings.eval, list[str](), dict[str, int]()
    held_out, tuning = _opened(how.data), _opened(how.tuning)
    others = [(f"--leave-out {path.name}", open_table(path, fewest=1)) for path in _tables(settings.leave_out)]
    for option, paths, sets in (("data", how.data, held_out), ("tuning", how.tuning, tuning)):
        for name in paths:
            others.append((f"--eval.{option}" + (f" {name}" if len(paths) > 1 else ""), sets[name]))
    stays = np.ones(len(table), np.bool_)
    shared: dict[str, NDArray[np.bool_]] = {}
    for flag, other in others:  # files of one name in two directories have one flag
        shared[flag] = shared.get(flag, ~stays) | _inside(table, other)
    for flag, inside in shared.items():
        both, ours = int(inside.sum()), flag.startswith("--leave-out")
        if not both and not ours:
            continue
        if ours or leave_out:
            notes.append(f"{both:,} of {len(table):,} rows are not trained on: they stand in {flag} as well")
            left_out |= {flag: both} if both else {}
            stays &= ~inside
        else:
            notes.append(
                f"{both:,} of {len(table):,} rows to train on stand in {flag} as well: the run was begun so by an "
                "earlier version, and goes on with them; another --output leaves them out"
            )
    for name, each in tuning.items():
        judged = np.logical_or.reduce([np.zeros(len(each), np.bool_), *(_inside(each, it) for it in held_out.values())])
        if judged.any():
            notes.append(
                f"{int(judged.sum()):,} of {len(each):,} rows of {name} in --eval.tuning stand in --eval.data as well: "
                "what is chosen by them is judged by them too"
            )
    if not stays.all():
        table = _left(table, stays, " and ".join(flag for flag in shared if flag in left_out))
    for flag, rows, name, sets, instead in (
        ("--eval.rows", how.rows, HELD_OUT, held_out, "--eval.data"),
        ("--eval.tuning-rows", how.tuning_rows, TUNING, tuning, "--eval.tuning"),
    ):
        if rows and sets:
            notes.append(f"{flag} {rows:,} holds no row out: {instead} names other tables for it")
        elif rows:
            table, sets[name] = _hold_out(table, rows, how.seed, flag)
            if (held := len(sets[name])) > rows:
                notes.append(f"{flag} {rows:,} holds out {held:,}: rows with one example_id are held out together")
    if how.near_duplicates is not None and leave_out:
        judged = [*held_out.values(), *tuning.values()]
        if not judged:
            remedy = "give --eval.rows or --eval.data, or leave it out"
            raise UsageError("--eval.near-duplicates has no use: no row is held out", remedy=remedy)
        near = near_duplicates(table, judged, how.near_duplicates)
        flag = f"--eval.near-duplicates {how.near_duplicates:g}"
        notes.append(f"{len(near):,} of {len(table):,} rows are not trained on: {flag}, they are like held-out rows")
        if len(near):
            left_out[flag] = len(near)
            table = _left(table, np.isin(np.arange(len(table)), near, invert=True), flag)
    if settings.subset:
        table = _subset(table, settings.subset, seed)
    table.notes += notes
    open_sets = tuning or held_out  # what a curriculum may ask about is not what it is judged by, where there is both
    if len(open_sets) == 1:
        (table.held_out,) = open_sets.values()
    return Split(table, held_out, tuning, left_out)


def _left(table: Table, stays: NDArray[np.bool_], reason: str) -> Table:
    if (left := int(stays.sum())) < FEWEST:
        raise UsageError(
            f"{reason} leaves {left or 'none'} of {len(table)} rows to train on",
            where=table.where,
            remedy="name a table with other rows to train on: what is evaluated, or left out, is not",
        )
    return table.take(np.flatnonzero(stays))


def _tables(paths: Iterable[Path]) -> list[Path]:
    """The tables that are named, some by their certificates."""
    return [path.parent if path.name == CERTIFICATE else path for path in paths]


def _opened(paths: Mapping[str, Path]) -> dict[str, Table]:
    return {name: open_table(path, fewest=1) for name, path in paths.items()}


def hold_out(table: Table, rows: int, seed: int = 0) -> tuple[Table, Table]:
    """Two tables: the rows to train on, and at least ``rows`` that are held out, as ``--eval.rows`` parts them.

    Rows with one ``example_id`` are on one side. Raises UsageError where fewer than two are left to train on.
    """
    check_open(table)
    return _hold_out(table, rows, seed, "--eval.rows")


def _hold_out(table: Table, rows: int, seed: int, flag: str) -> tuple[Table, Table]:
    order = table.tie_order(seed)  # equal ids have equal hashes, and so stand side by side
    held = min(rows, len(order))
    while held < len(order) and (table.ids[order[held]] == table.ids[order[held - 1]]).all():
        held += 1
    left = len(order) - held
    if left < FEWEST:
        copied = len(np.unique(table.ids, axis=0)) < len(order)
        together = ", and rows with one example_id are held out together" * copied
        raise UsageError(
            f"{flag} {rows:,} leaves {left or 'none'} of {counted(len(order), 'row')} to train on",
            where=table.where,
            remedy=f"hold out fewer, {max(0, len(order) - FEWEST):,} at most: an order needs two rows{together}",
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


def _inside(table: Table, other: Table) -> NDArray[np.bool_]:
    """Which rows of a table have an id of the other: bool (rows,)."""
    return np.isin(whole_ids(table.ids), whole_ids(other.ids))


def left_out(table: Table, paths: Iterable[Path]) -> NDArray[np.bool_]:
    """Which rows of a table stand in one of those that are to be left out: bool (rows,)."""
    mask = np.zeros(len(table), np.bool_)
    for path in _tables(paths):
        inside = _inside(table, open_table(path, fewest=1))
        table.notes.append(
            f"{inside.sum():,} of {len(table):,} rows are not learned from: they stand in {path} as well"
        )
        mask |= inside
    return mask
