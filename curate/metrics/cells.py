"""From rows of numbers and reasons to Arrow columns and notes (docs/design.md, law 2: null, never a sentinel)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pyarrow as pa
from curricle.curate.batch import Scores
from curricle.schemas.columns import ScoreColumn

Cell = int | float | bool | str
"""A value of a numeric column, or a string: the reason why there is none."""


def to_scores(columns: Sequence[ScoreColumn], cells: Mapping[str, Sequence[Cell]]) -> Scores:
    """Columns in which each reason has become a null, with the note ``<column>: <reason>`` in its row."""
    arrays: dict[str, pa.Array] = {}
    notes: defaultdict[int, list[str]] = defaultdict(list)
    for column in columns:
        values = cells[column.name]
        reasons = {row: cell for row, cell in enumerate(values) if isinstance(cell, str)}
        for row, reason in reasons.items():
            notes[row].append(f"{column.name}: {reason}")
        numbers = [None if row in reasons else cell for row, cell in enumerate(values)] if reasons else values
        arrays[column.name] = pa.array(numbers, column.type)
    return Scores(arrays, dict(notes))
