"""What a finished table has no value for, by column, and no row for, and why."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from curricle.pipelines.tables.reader import FinishedTable
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


def nulls(table: FinishedTable) -> list[Nulls]:
    """The score columns that have nulls, in their order. UserError if a part cannot be read."""
    counts = {name: rows for name, rows in table.null_counts().items() if rows and name in table.scores}
    reasons = dict(_reasons(table, counts))
    return [Nulls(name, rows, table.manifest.total.scored, reasons[name]) for name, rows in counts.items()]


def most_rejected(table: FinishedTable) -> str | None:
    """Why most of the rejects are no rows; None if there are none. UserError if a part cannot be read."""
    found, first = Counter[str](), dict[str, str]()
    for group in table.rejected(REJECTS):
        for reason in group["reason"].to_pylist():
            kind = _NUMBER.sub("N", reason)
            found[kind] += 1
            first.setdefault(kind, reason)
        if found.total() >= LOOKED_AT:
            break
    best = found.most_common(1)
    return first[best[0][0]] if best else None


def _reasons(table: FinishedTable, counts: dict[str, int]) -> Iterator[tuple[str, str | None]]:
    """The most frequent kind of note that a column's nulls have; kinds differ in more than their numbers."""
    found: dict[str, Counter[str]] = {name: Counter() for name in counts}
    first: dict[tuple[str, str], str] = {}
    looked = Counter[str]()
    for group in table.groups([*counts, NOTES_FIELD.name]) if counts else ():
        for name in counts:
            notes = group[NOTES_FIELD.name].filter(group[name].is_null()) if looked[name] < LOOKED_AT else ()
            for row in notes:
                looked[name] += 1
                for note in row.as_py() or ():
                    if note.startswith(f"{name}: "):
                        reason = note.removeprefix(f"{name}: ")
                        kind = _NUMBER.sub("N", reason)
                        found[name][kind] += 1
                        first.setdefault((name, kind), reason)
        if all(looked[name] >= min(LOOKED_AT, rows) for name, rows in counts.items()):
            break
    for name, kinds in found.items():
        best = kinds.most_common(1)
        yield name, first[name, best[0][0]] if best else None
