"""What a finished table has no value for, by column, and no row for, and why."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.table import NOTES_FIELD, REJECTS

LOOKED_AT = 100_000
"""Rows without a value whose notes are read, for each column, and rejects, to tell the most frequent reason."""
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*\b")


class Nulls(NamedTuple):
    """One column: how many of the table's rows have no value, and the reason that most of them have."""

    column: str
    rows: int
    of: int
    reason: str | None

    def __str__(self) -> str:
        return f"{self.column}: {self.rows:,} of {self.of:,} null" + (f": {self.reason}" if self.reason else "")


class _Reasons:
    """Counts reasons by kind, and keeps the first of each: kinds differ in more than their numbers."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, reason: str) -> None:
        kind = _NUMBER.sub("N", reason)
        self._kinds[kind] += 1
        self._first.setdefault(kind, reason)

    @property
    def total(self) -> int:
        return self._kinds.total()

    @property
    def most_frequent(self) -> str | None:
        best = self._kinds.most_common(1)
        return self._first[best[0][0]] if best else None


def nulls(table: TableReader) -> list[Nulls]:
    """The score columns that have nulls, in their order. UserError if a part cannot be read."""
    counts = {name: rows for name, rows in table.null_counts().items() if rows and name in table.scores}
    reasons = dict(_reasons(table, counts))
    return [Nulls(name, rows, table.manifest.total.scored, reasons[name]) for name, rows in counts.items()]


def most_rejected(table: TableReader) -> str | None:
    """Why most of the rejects are no rows; None if there are none. UserError if a part cannot be read."""
    reasons = _Reasons()
    for group in table.rejected(REJECTS):
        for reason in group["reason"].to_pylist():
            reasons.add(reason)
        if reasons.total >= LOOKED_AT:
            break
    return reasons.most_frequent


def _reasons(table: TableReader, counts: dict[str, int]) -> Iterator[tuple[str, str | None]]:
    """The most frequent note that each column's nulls have."""
    columns = {name: _Reasons() for name in counts}
    looked = Counter[str]()
    for group in table.groups([*counts, NOTES_FIELD.name]) if counts else ():
        for name in counts:
            notes = group[NOTES_FIELD.name].filter(group[name].is_null()) if looked[name] < LOOKED_AT else ()
            for row in notes:
                looked[name] += 1
                for note in row.as_py() or ():
                    if note.startswith(f"{name}: "):
                        columns[name].add(note.removeprefix(f"{name}: "))
        if all(looked[name] >= min(LOOKED_AT, rows) for name, rows in counts.items()):
            break
    for name, reasons in columns.items():
        yield name, reasons.most_frequent
