"""Small difficulty tables for tests of the trainer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import MESSAGES, file_metadata
from curricle.train.curricula.base import Outcome, Probe, ProbeResult, Stage
from curricle.train.curricula.course import Course
from curricle.train.data.table import Table, open_table
from curricle.train.ordering.journal import Journal
from curricle.train.ordering.replay import JournaledCourse


def write_table(
    path: Path,
    columns: Mapping[str, Sequence[Any]],
    *,
    low: Sequence[str] = (),
    fingerprint: str | None = None,
    row_group_size: int = 1024,
    first: int = 0,
) -> Path:
    """A Parquet file with an id and messages for each row; numbers are scores, hard at their high end or in ``low``."""
    rows = len(next(iter(columns.values())))
    texts = [[("user", f"question {first + row}"), ("assistant", f"answer {first + row}")] for row in range(rows)]
    fields = [pa.field("example_id", pa.string()), pa.field("messages", MESSAGES), pa.field("extra", pa.string())]
    arrays = [
        pa.array([example_id(text) for text in texts]),
        pa.array([[{"role": role, "content": content} for role, content in text] for text in texts], MESSAGES),
        pa.array([None] * rows, pa.string()),
    ]
    for name, values in columns.items():
        array = pa.array(values)
        score = ScoreColumn(name, array.type, "unit", "test", "low" if name in low else "high", "test", 1)
        fields.append(pa.field(name, array.type) if pa.types.is_string(array.type) else score.to_field())
        arrays.append(array)
    schema = pa.schema(fields, metadata=file_metadata(fingerprint) if fingerprint else None)
    pq.write_table(pa.table(arrays, schema=schema), path, row_group_size=row_group_size)
    return path


def make_table(directory: Path, columns: Mapping[str, Sequence[Any]], **options: Any) -> Table:
    return open_table(write_table(directory / "table.parquet", columns, **options))


def stages_of(
    course: Course,
    journal: Journal,
    student: Callable[[Probe], ProbeResult],
    outcome: Callable[[Stage], Outcome] | None = None,
) -> Iterator[Stage]:
    """The stages of a course that a journal keeps, for a student that is asked where the journal does not know.

    ``outcome``: what comes of a stage that it is trained on.
    """
    rest = JournaledCourse(course, journal)
    while (step := rest.next()) is not None:
        if isinstance(step, Probe):
            rest.answer(student(step))
        else:
            yield step
            if step.outcome and outcome:
                rest.report(outcome(step))
