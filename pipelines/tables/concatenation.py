"""Several tables as one: which rows come in which order, and what the ledger says of their sources.

Records are told apart by source and position, so a table has each of them once, the positions of a source rising.
Tables that have rows of the same file, such as the sets of a split, are therefore merged by position; files that are
different and have one name get the name of their table before it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa
from curricle.pipelines.tables.agreement import common_columns, common_reading, labels_of, source_names
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError
from curricle.schemas.identity import table_fingerprint, table_identity
from curricle.schemas.manifest import ConcatenatedFrom, Source
from curricle.schemas.table import NOTES_FIELD, column_of_note, rejects_schema, table_schema
from numpy.typing import NDArray

ROWS = 8192
"""Rows that are put in order at once."""
POSITION = ("source", "source_position")

RowNumbers: TypeAlias = NDArray[np.int64]
RowReader: TypeAlias = Callable[[int, RowNumbers], Iterator[pa.Table]]
"""Rows (rising) of the table of that number."""


@dataclass(frozen=True)
class Concatenation:
    """The tables, their names, the columns that are kept, and ``names``: what each table's sources are called here."""

    tables: Sequence[TableReader]
    labels: Sequence[str]
    columns: Sequence[ScoreColumn]
    reading: Mapping[str, Any] | None
    names: Sequence[Mapping[str, str]]

    @property
    def identity(self) -> dict[str, Any]:
        return table_identity(self.columns, self.reading)

    @property
    def schema(self) -> pa.Schema:
        return table_schema(self.columns, table_fingerprint(self.identity))

    @property
    def plan(self) -> dict[str, Any]:
        """What decides the rows: tables by the digests of their manifests, and the names that their sources get."""
        renamed = [self._renamed(number) for number in range(len(self.tables))]
        recipe = {"columns": {column.name: column.fingerprint for column in self.columns}, "sources": renamed}
        return {"concatenates": [table.manifest_sha256 for table in self.tables], "recipe": recipe}

    @property
    def origins(self) -> list[ConcatenatedFrom]:
        """What the manifest says of each table."""
        return [
            ConcatenatedFrom(
                name=self.labels[number],
                manifest_sha256=table.manifest_sha256,
                fingerprint=table.manifest.fingerprint,
                rows=table.manifest.total.scored,
                rejected=table.manifest.total.rejected,
                renamed=self._renamed(number),
            )
            for number, table in enumerate(self.tables)
        ]

    @cached_property
    def sources(self) -> list[Source]:
        """The ledger: what is read here are the rows of the tables, and their rejects."""
        ledger: dict[str, Source] = {}
        for table, names in zip(self.tables, self.names, strict=True):
            for source in table.manifest.sources:
                name = names[source.source]
                before = ledger.get(name)
                scored, rejected = source.scored, source.rejected
                if before:
                    scored, rejected = scored + before.scored, rejected + before.rejected
                ledger[name] = Source(
                    source=name,
                    bytes=source.bytes,
                    sha256=source.sha256,
                    read=scored + rejected,
                    scored=scored,
                    rejected=rejected,
                )
        return list(ledger.values())

    def rows(self) -> Iterator[pa.Table]:
        """The rows of all tables, in order. UsageError if a record stands in two of them."""
        schema = self.schema

        def read(number: int, rows: RowNumbers) -> Iterator[pa.Table]:
            return (self._named(number, group, schema) for _, group in self.tables[number].rows(rows, schema.names))

        return self._merged(self._positions[0], read)

    def rejects(self) -> Iterator[pa.Table]:
        """The rejects of all tables, in order; none if there are none."""
        signed = rejects_schema(table_fingerprint(self.identity))

        def read(number: int, rows: RowNumbers) -> Iterator[pa.Table]:
            return (self._named(number, group, signed) for _, group in self.tables[number].rejects(rows))

        return self._merged(self._positions[1], read)

    def check_records(self) -> None:
        """UsageError if a record stands in two tables, or twice in one."""
        records = pl.concat(self._positions)
        doubled = records.filter(pl.struct("rank", POSITION[1]).is_duplicated())
        if doubled.is_empty():
            return
        rank, position = doubled.select("rank", POSITION[1]).row(0)
        twice = doubled.filter((pl.col("rank") == rank) & (pl.col(POSITION[1]) == position))
        where = " and ".join(self.labels[number] for number in dict.fromkeys(twice["table"].to_list()))
        raise UsageError(
            f"{doubled.select('rank', POSITION[1]).n_unique():,} records stand twice: the first is "
            f"{self.sources[rank].source} position {position}, in {where}",
            where=self.tables[-1].path,
            remedy="name tables of different records, or select from one what the others lack",
        )

    @cached_property
    def _positions(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """``rank`` of the source, ``source_position``, ``table`` and ``row`` there: of the rows, and of the rejects."""
        data = [table.columns(POSITION) for table in self.tables]
        rejects = [table.reject_columns(POSITION) for table in self.tables]
        return self._ranked(data), self._ranked(rejects)

    def _ranked(self, positions: Sequence[pa.Table]) -> pl.DataFrame:
        ranks = {source.source: rank for rank, source in enumerate(self.sources)}
        frames = [
            pl.DataFrame(keys)
            .with_row_index("row")
            .select(
                pl.col(POSITION[0])
                .replace_strict({old: ranks[new] for old, new in names.items()}, return_dtype=pl.Int64)
                .alias("rank"),
                POSITION[1],
                pl.lit(number, pl.Int64).alias("table"),
                pl.col("row").cast(pl.Int64),
            )
            for number, (keys, names) in enumerate(zip(positions, self.names, strict=True))
        ]
        return pl.concat(frames).sort("rank", POSITION[1], maintain_order=True)

    def _merged(self, order: pl.DataFrame, read: RowReader) -> Iterator[pa.Table]:
        tables, rows = (order[name].to_numpy() for name in ("table", "row"))
        for start, stop in _stretches(tables, rows):
            yield from _merge(tables[start:stop], rows[start:stop], read)

    def _named(self, number: int, group: pa.Table, schema: pa.Schema) -> pa.Table:
        """The columns of the schema, with the sources under the names that they have here."""
        columns = {name: group[name] for name in schema.names}
        if renamed := self._renamed(number):
            sources = pl.Series(columns[POSITION[0]]).replace(renamed)
            columns[POSITION[0]] = pa.chunked_array([sources.to_arrow().cast(pa.string())])
        dropped = {*self.tables[number].scores} - {*schema.names}
        if dropped and NOTES_FIELD.name in columns:
            notes = [_without(texts, dropped) for texts in columns[NOTES_FIELD.name].to_pylist()]
            columns[NOTES_FIELD.name] = pa.chunked_array([pa.array(notes, NOTES_FIELD.type)])
        return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)

    def _renamed(self, number: int) -> dict[str, str]:
        return {old: new for old, new in self.names[number].items() if old != new}


def concatenation(tables: Sequence[TableReader], names: Sequence[str] = ()) -> Concatenation:
    """The tables as one, with the score columns of these names, or with all.

    UsageError, which names each column with the fingerprints that it has, where they are not made alike.
    """
    labels = labels_of([table.path for table in tables])
    columns = common_columns(tables, labels, names)
    return Concatenation(tables, labels, columns, common_reading(tables, labels), source_names(tables, labels))


def _without(notes: Sequence[str] | None, columns: Collection[str]) -> list[str] | None:
    """The notes of a row but for those on these columns. None is nothing to say."""
    return [note for note in notes or () if column_of_note(note) not in columns] or None


def _stretches(tables: RowNumbers, rows: RowNumbers) -> Iterator[tuple[int, int]]:
    """Ranges of an order in which the rows of each table rise, so that each is read from front to end: one, but for
    tables that have their sources in different orders.
    """
    by_table = np.argsort(tables, kind="stable")
    falls = (np.diff(rows[by_table]) < 0) & (np.diff(tables[by_table]) == 0)
    cuts = [0, *sorted(by_table[1:][falls].tolist()), len(rows)]
    return pairwise(cuts)


def _merge(tables: RowNumbers, rows: RowNumbers, read: RowReader) -> Iterator[pa.Table]:
    """Rows that rise in each table, in this order."""
    streams = {number: _Stream(read(number, rows[tables == number])) for number in np.unique(tables).tolist()}
    for start in range(0, len(rows), ROWS):
        mine = tables[start : start + ROWS]
        numbers, counts = np.unique(mine, return_counts=True)
        pieces = [streams[number].take(count) for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)]
        if len(pieces) == 1:
            yield pieces[0]
            continue
        indices = np.empty(len(mine), np.int64)
        indices[np.argsort(mine, kind="stable")] = np.arange(len(mine))
        yield pa.concat_tables(pieces).take(pa.array(indices))


class _Stream:
    """Tables as one, of which the next rows are taken."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._rest: pa.Table | None = None

    def take(self, count: int) -> pa.Table:
        pieces: list[pa.Table] = [] if self._rest is None else [self._rest]
        while sum(piece.num_rows for piece in pieces) < count:
            pieces.append(next(self._tables))
        waiting = pa.concat_tables(pieces)
        self._rest = waiting.slice(count)
        return waiting.slice(0, count)
