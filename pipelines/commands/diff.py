"""Two finished tables compared: rows, columns, fingerprints, and how each metric drifts; as text, JSON and a page."""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from curricle.curate.report.difference import (
    SHOWN,
    ColumnChange,
    Difference,
    Moved,
    TableSummary,
    difference_page,
    record,
)
from curricle.curate.report.distributions import is_category, is_numeric
from curricle.curate.report.drift import RowMatch, drift
from curricle.pipelines.settings.diff import DiffSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.reader import TableReader, table_path
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import counted
from curricle.schemas.fingerprint import differences

JSON, PAGE = "diff.json", "diff.html"
KEYS = ("example_id", "source", "source_position")
FIELDS = ("extra", "notes")
"""Columns that are no scores and that ``example_id`` does not stand for."""


def diff(settings: DiffSettings) -> Difference:
    """Compare the tables, and write the page if there is to be one. UserError for a table that is damaged."""
    old, new = (TableReader(table_path(path)) for path in (settings.old, settings.new))
    if settings.output:
        OutputDirectory(settings.output).check_holds_only((JSON, PAGE))
    for name in settings.columns:
        if name not in {**old.scores, **new.scores}:
            raise UsageError(f"no score column {name!r}", remedy=nearest(name, {**old.scores, **new.scores}))
    for table in (old, new):
        table.check_bytes()
    difference = _difference(old, new, settings.columns)
    if settings.output:
        directory = OutputDirectory(settings.output)
        page = difference_page(difference)
        with directory.held():
            directory.write_json(JSON, record(difference))
            directory.write_text(PAGE, page)
    return difference


def _difference(old: TableReader, new: TableReader, names: Sequence[str]) -> Difference:
    before, after = (pl.DataFrame(table.columns(KEYS)) for table in (old, new))
    rows = _match(before, after)
    shared = [column for name, column in old.scores.items() if name in new.scores and (not names or name in names)]
    drifts = [drift(column, _series(old, column), _series(new, column), rows) for column in shared]
    first, second = ({"reading": table.manifest.identity.get("reading")} for table in (old, new))
    return Difference(
        old=_summary(old),
        new=_summary(new),
        both=len(rows.both),
        only_old=len(rows.old),
        only_new=len(rows.new),
        first_old=before[rows.old[:SHOWN]].select(KEYS[1:]).rows(),
        first_new=after[rows.new[:SHOWN]].select(KEYS[1:]).rows(),
        moved=[*_moved(before, after, rows), *_other_fields(old, new, before, after, rows)],
        sources=list(_sources(old, new)),
        reading=differences(first, second),
        columns=list(_columns(old, new, names)),
        drifts=drifts,
    )


def _summary(table: TableReader) -> TableSummary:
    manifest = table.manifest
    total = manifest.total
    created = manifest.cost.created
    return TableSummary(table.path, total.scored, total.rejected, manifest.fingerprint, table.manifest_sha256, created)


def _match(old: pl.DataFrame, new: pl.DataFrame) -> RowMatch:
    """Rows of one ``example_id``, the first of the old table with the first of the new one, and so on."""
    sides = [
        frame.select("example_id", pl.int_range(pl.len()).over("example_id").alias("copy")).with_row_index(name)
        for name, frame in (("old", old), ("new", new))
    ]
    both = sides[0].join(sides[1], on=["example_id", "copy"], how="full", maintain_order="left_right")
    old_rows, new_rows = both["old"], both["new"]
    pairs = both.filter(old_rows.is_not_null() & new_rows.is_not_null()).select("old", "new")
    alone = [both.filter(there.is_null())[name] for name, there in (("old", new_rows), ("new", old_rows))]
    first, second = (np.sort(rows.cast(pl.Int64).to_numpy()) for rows in alone)
    return RowMatch(pairs.cast(pl.Int64).to_numpy(), first, second)


def _moved(old: pl.DataFrame, new: pl.DataFrame, rows: RowMatch) -> Iterator[Moved]:
    """Whether rows of the same example are of another source, at another position, or in another order."""
    first, second = old[rows.both[:, 0]], new[rows.both[:, 1]]
    for what, names in (("another source", ["source"]), ("another position", ["source", "source_position"])):
        differ = pl.select(pl.any_horizontal(first[name].ne(second[name]) for name in names)).to_series()
        if what == "another position":
            differ &= first["source"].eq(second["source"])
        if differ.any():
            index = int(differ.arg_max() or 0)
            yield Moved(what, int(differ.sum()), (_name(first, index), _name(second, index)))
    turned = np.diff(rows.both[:, 1]) < 0
    if turned.any() and not (first["source"].ne(second["source"]).any()):
        index = int(turned.argmax()) + 1
        yield Moved("another order", int(turned.sum()), (_name(first, index - 1), _name(first, index)))


def _name(frame: pl.DataFrame, row: int) -> str:
    return f"{frame['source'][row]} {frame['source_position'][row]}"


def _other_fields(
    old: TableReader, new: TableReader, before: pl.DataFrame, after: pl.DataFrame, rows: RowMatch
) -> Iterator[Moved]:
    """Whether rows of the same example have other fields beside the messages, or other notes."""
    for name in FIELDS:
        first, second = _hashes(old, name), _hashes(new, name)
        differ = first.gather(rows.both[:, 0]).ne_missing(second.gather(rows.both[:, 1]))
        if differ.any():
            one, other = rows.both[int(differ.arg_max() or 0)]
            yield Moved(f"other {name}", int(differ.sum()), (_name(before, int(one)), _name(after, int(other))))


def _sources(old: TableReader, new: TableReader) -> Iterator[str]:
    """One line for each file that one table lacks, or that has other bytes."""
    before, after = ({source.source: source for source in table.manifest.sources} for table in (old, new))
    names = {source.sha256: source.source for source in after.values()}
    for name, source in before.items():
        if name not in after:
            renamed = names.get(source.sha256)
            yield f"{name}: {counted(source.read, 'record')}, " + (
                f"called {renamed} in NEW" if renamed else "not in NEW"
            )
        elif after[name].sha256 != source.sha256:
            yield f"{name}: other bytes, {counted(source.read, 'record')} in OLD and {after[name].read:,} in NEW"
    digests = {source.sha256 for source in before.values()}
    for name, source in after.items():
        if name not in before and source.sha256 not in digests:
            yield f"{name}: {counted(source.read, 'record')}, not in OLD"


def _columns(old: TableReader, new: TableReader, names: Sequence[str]) -> Iterator[ColumnChange]:
    for name in {**old.scores, **new.scores}:
        if names and name not in names:
            continue
        mine, its = old.scores.get(name), new.scores.get(name)
        if mine is None or its is None:
            yield ColumnChange(name, mine.fingerprint if mine else None, its.fingerprint if its else None)
        elif changes := mine.changes(its):
            yield ColumnChange(name, mine.fingerprint, its.fingerprint, changes)


def _series(table: TableReader, column: ScoreColumn) -> pl.Series:
    """The values of a column; of what is no number and no name, their hashes."""
    if is_numeric(column) or is_category(column):
        return pl.Series(column.name, table.columns([column.name])[column.name])
    return _hashes(table, column.name)


def _hashes(table: TableReader, name: str) -> pl.Series:
    """A number for the value in each row, null where there is none: texts and vectors would not fit into memory."""
    parts = [pl.Series(name, [], pl.UInt64)]
    for group in table.groups([name]):
        values = pl.Series(name, group[name])
        hashes = pl.DataFrame(values).hash_rows().alias(name)
        parts.append(pl.select(pl.when(values.is_not_null()).then(hashes)).to_series())
    return pl.concat(parts)
