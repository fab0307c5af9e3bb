"""What differs between two tables: in words, and as a page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curricle.curate.report.chart import overlaid_histograms
from curricle.curate.report.distributions import QUANTILES
from curricle.curate.report.drift import Drift, Side
from curricle.schemas.common.wording import counted, shortened
from curricle.schemas.pages.page import rendered
from curricle.schemas.pages.text import number

SHOWN = 5
"""Rows that are named, of those that one table has alone."""


@dataclass(frozen=True)
class TableSummary:
    """One of the tables: how it was named, and what its manifest says."""

    path: str
    rows: int
    rejected: int
    fingerprint: str
    manifest_sha256: str
    created: str


@dataclass(frozen=True)
class Moved:
    """Rows of the same example whose other fields differ: how many, and the first of them."""

    what: str
    rows: int
    first: tuple[str, str]


@dataclass(frozen=True)
class ColumnChange:
    """A score column that one table lacks, or that is made otherwise: its fingerprints, and what is behind that."""

    name: str
    old: str | None
    new: str | None
    changes: Sequence[str] = ()


@dataclass(frozen=True)
class Difference:
    """What differs between two tables; ``is_empty`` if nothing does.

    ``both`` rows stand in both tables, by ``example_id``: of a conversation that a table has several times, as many as
    both have. ``only_old`` and ``only_new`` are the others, and the first of them by source and position.
    ``reading``: where records became rows otherwise. ``sources`` has a line for each file that one table lacks or that
    has other bytes.
    """

    old: TableSummary
    new: TableSummary
    both: int
    only_old: int
    only_new: int
    first_old: Sequence[tuple[str, int]] = ()
    first_new: Sequence[tuple[str, int]] = ()
    moved: Sequence[Moved] = ()
    sources: Sequence[str] = ()
    reading: Sequence[str] = ()
    columns: Sequence[ColumnChange] = ()
    drifts: Sequence[Drift] = field(default=())

    @property
    def is_empty(self) -> bool:
        rows = self.only_old or self.only_new or self.moved or self.old.rejected != self.new.rejected
        return not (rows or self.sources or self.reading or self.columns or self.drifting)

    @property
    def drifting(self) -> list[Drift]:
        """The columns that differ, those that differ most first."""
        return sorted((each for each in self.drifts if not each.is_same), key=lambda each: -each.drift)

    def beyond(self, most: float | None) -> bool:
        """Whether this is a difference to who lets rows and columns come, and columns drift so far. None: any is."""
        if most is None:
            return not self.is_empty
        lost = any(change.old is not None for change in self.columns)
        return bool(self.reading) or lost or any(max(each.drift, each.disagreement) > most for each in self.drifts)


def lines(difference: Difference) -> Iterator[str]:
    """What differs, for a person and for a log; nothing where nothing does."""
    if difference.is_empty:
        return
    old, new = difference.old, difference.new
    for name, table in (("OLD", old), ("NEW", new)):
        yield f"{name} {table.path}: {counted(table.rows, 'row')}, {counted(table.rejected, 'reject')}"
    yield f"rows: {difference.both:,} in both, {difference.only_old:,} only in OLD, {difference.only_new:,} only in NEW"
    for name, count, first in (
        ("OLD", difference.only_old, difference.first_old),
        ("NEW", difference.only_new, difference.first_new),
    ):
        if count:
            records = [f"{source} {position}" for source, position in first]
            yield f"  only in {name}: {shortened(records, most=len(records), of=count)}"
    for moved in difference.moved:
        count_in_words, (before, after) = counted(moved.rows, "row"), moved.first
        yield f"  {moved.what}: {count_in_words} in both; the first was {before}, and is {after}"
    yield from (f"source {line}" for line in difference.sources)
    yield from (f"reading: {line}" for line in difference.reading)
    for change in difference.columns:
        yield f"column {change.name}: {change.old or 'none'} in OLD, {change.new or 'none'} in NEW"
        yield from (f"  {line}" for line in change.changes)
    if drifting := difference.drifting:
        rows = [("column", "drift", "null", "median", "same rows changed", "test", "p"), *map(_cells, drifting)]
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(drift: Drift) -> tuple[str, ...]:
    nulls = f"{100 * drift.old.empty_share:.3g} % > {100 * drift.new.empty_share:.3g} %"
    medians = " > ".join(number(side.quantiles[50]) if side.quantiles else "-" for side in (drift.old, drift.new))
    changed = f"{drift.paired.changed:,} of {drift.paired.rows:,}"
    test = drift.test or drift.paired.test
    result = f"{test.name} {test.statistic:.3g}, {test.rows} ({test.sizes[0]:,}, {test.sizes[1]:,})" if test else "-"
    distance = "-" if drift.kind == "other" else f"{drift.drift:.3f}"
    return drift.column.name, distance, nulls, medians, changed, result, f"{test.p:.2g}" if test else "-"


def difference_page(difference: Difference) -> str:
    """One self-contained HTML page, which fetches nothing and runs nothing; every text on it is escaped."""
    pictures = {
        drift.column.name: overlaid_histograms(drift, f"d{index}")
        for index, drift in enumerate(difference.drifts)
        if drift.edges
    }
    return rendered(
        "curricle.curate.report",
        "difference.html.j2",
        {"difference": difference, "pictures": pictures, "percents": QUANTILES, "largest": _largest},
    )


def _largest(drift: Drift) -> list[tuple[str, float, float]]:
    """The categories whose shares differ most, with both."""
    old, new = (side.shares or {} for side in (drift.old, drift.new))
    names = sorted(old, key=lambda name: -abs(old[name] - new[name]))
    return [(name, old[name], new[name]) for name in names[:8]]


def record(difference: Difference) -> dict[str, Any]:
    """As JSON-like values."""
    return {
        "old": vars(difference.old),
        "new": vars(difference.new),
        "rows": {"both": difference.both, "only_old": difference.only_old, "only_new": difference.only_new},
        "first_old": [list(row) for row in difference.first_old],
        "first_new": [list(row) for row in difference.first_new],
        "moved": [vars(moved) for moved in difference.moved],
        "sources": list(difference.sources),
        "reading": list(difference.reading),
        "columns": [vars(change) for change in difference.columns],
        "drift": [_of_drift(drift) for drift in difference.drifts],
    }


def _of_drift(drift: Drift) -> dict[str, Any]:
    test, paired = (each and vars(each) for each in (drift.test, drift.paired.test))
    return {
        "column": drift.column.name,
        "kind": drift.kind,
        "drift": drift.drift,
        "distance": drift.distance,
        "test": test,
        "paired": {**vars(drift.paired), "test": paired},
        "old": _of_side(drift.old),
        "new": _of_side(drift.new),
    }


def _of_side(side: Side) -> Mapping[str, Any]:
    return {name: value for name, value in vars(side).items() if value is not None}
