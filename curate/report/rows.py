"""The rows that a report shows, and what it counts over texts: read lazily, only the columns that are asked for."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from curricle.schemas.pages.excerpts import Excerpt, ShownExample
from curricle.schemas.parquet import open_parquet

SHOWN_KINDS = 20
SHOWN_REJECTS = 3
RAW_CHARACTERS = 600
_READ_ROWS = 1024
_EXAMPLE = ["example_id", "source", "source_position", "messages"]


def scan(parts: Sequence[Path]) -> pl.LazyFrame:
    """The parts as one lazy frame, in order."""
    # No globs and no hive partitions: a directory may be called `a=b` or `[x]`.
    return pl.scan_parquet(list(parts), glob=False, hive_partitioning=False)


def examples(parts: Sequence[Path], rows: Iterable[int]) -> dict[int, ShownExample]:
    """The examples at these row numbers of the table, read from the row groups that hold them, a little at a time."""
    waiting = deque(sorted(set(rows)))
    examples: dict[int, ShownExample] = {}
    end = 0
    for part in parts:
        with open_parquet(part) as file:
            for group in range(file.num_row_groups):
                start, end = end, end + file.metadata.row_group(group).num_rows
                if not waiting or waiting[0] >= end:
                    continue
                for batch in file.iter_batches(_READ_ROWS, [group], _EXAMPLE, use_threads=False):
                    while waiting and waiting[0] < start + len(batch):
                        row = waiting.popleft()
                        examples[row] = ShownExample.of(batch.slice(row - start, 1).to_pylist()[0])
                    start += len(batch)
    return examples


def _kind(text: pl.Expr) -> pl.Expr:
    """Messages that differ only in their numbers are of one kind."""
    return text.str.replace_all(r"(^|[\s(=:])\d[\d,]*\b", "${1}N")


def _by_count(kinds: pl.LazyFrame) -> list[tuple[str, int]]:
    counted = kinds.group_by("kind").agg(pl.len().alias("rows"))
    return counted.sort(["rows", "kind"], descending=[True, False]).collect(engine="streaming").rows()


def note_kinds(table: pl.LazyFrame) -> list[tuple[str, int]]:
    """Each kind of note and how often it was made, the most frequent first."""
    return _by_count(table.select(_kind(pl.col("notes").explode()).alias("kind")).drop_nulls())


@dataclass(frozen=True)
class Rejects:
    """The rejects of one reason, with the first few of them: source, position, raw text."""

    reason: str
    rows: int
    first: Sequence[tuple[str, int, Excerpt]]


def rejects_by_reason(rejects: pl.LazyFrame) -> list[Rejects]:
    """The rejects by kind of reason, the most frequent first; examples for the first ``SHOWN_KINDS`` kinds."""
    kinds = rejects.with_columns(_kind(pl.col("reason")).alias("kind"))
    counted = _by_count(kinds.select("kind"))
    shown = pl.Series([kind for kind, _ in counted[:SHOWN_KINDS]], dtype=pl.String)
    first = (
        kinds.filter(pl.col("kind").is_in(shown.implode()))
        .group_by("kind", maintain_order=True)
        .head(SHOWN_REJECTS)
        .collect()
    )
    return [
        Rejects(
            kind,
            rows,
            [
                (row["source"], row["source_position"], Excerpt.of(row["raw"], RAW_CHARACTERS))
                for row in first.filter(pl.col("kind") == kind).iter_rows(named=True)
            ],
        )
        for kind, rows in counted
    ]
