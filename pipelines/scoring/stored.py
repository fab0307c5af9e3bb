"""Scores that finished tables hold: copied for the examples that they are of, where the columns are made alike.

A score depends on its conversation and on what the fingerprint of its column is made of, and on nothing else
(docs/design.md, laws 3 and 4). ``example_id`` stands for the conversation, whatever the file is called, so a row of any
table has the score of every row of that id. Four things are looked at closely:

* a metric is copied as a whole: all its columns, and its notes, which begin with the name of one of them;
* a metric of a plug-in may read ``extra`` too, so that has to be the same; and where it wrote notes without the name of
  a column, nobody can tell whose they are, and the row is computed;
* a null that says that the memory of a machine did not suffice is no property of the row, and is computed;
* in tables of contract 1 an id may stand for two renderings: rows whose id would be another one now are passed over.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from curricle.curate.batch import OUT_OF_MEMORY
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UserError
from curricle.schemas.contract import FIRST
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import NOTES_FIELD, column_of_note
from numpy.typing import NDArray

PREFIX = 16
"""Hex digits of an id that an index holds: 64 bits. The whole id is compared where a row is read."""


class RowScores(NamedTuple):
    """Scores of one metric: ``rows`` of a shard, a value of each column for each of them, and notes."""

    rows: NDArray[np.int64]
    columns: Mapping[str, pa.Array]
    notes: Sequence[Sequence[str]]


@dataclass(frozen=True)
class StoredTable:
    """A finished table, and the columns of each metric that it has all of, made as a job makes them.

    ``plugins`` are those of the metrics that are a plug-in's.
    """

    path: str
    manifest_sha256: str
    metrics: tuple[tuple[str, tuple[str, ...]], ...]
    plugins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, table: TableReader, path: str, columns: Iterable[ScoreColumn]) -> "StoredTable":
        """What a table at ``path`` has of the columns of a job."""
        by_metric: dict[str, list[ScoreColumn]] = {}
        for column in columns:
            by_metric.setdefault(column.metric, []).append(column)
        there = table.scores
        alike = {
            metric: tuple(column.name for column in mine)
            for metric, mine in by_metric.items()
            if all(column.name in there and not there[column.name].changes(column) for column in mine)
        }
        plugins = frozenset(metric for metric in alike if "plugin" in by_metric[metric][0].params)
        return cls(path, table.manifest_sha256, tuple(alike.items()), plugins)

    @property
    def reader(self) -> TableReader:
        """The table; UserError if it is not the one any more that the job began with."""
        return _reader(self.path, self.manifest_sha256)

    def scores(
        self, examples: pa.Table, notes: Mapping[int, Sequence[str]], lacking: Mapping[str, NDArray[np.int64]]
    ) -> list[tuple[str, RowScores]]:
        """What the table has of ``lacking``, rows of these examples by metric, whose ids are looked up.

        ``notes``: what reading the examples left, by row.
        """
        wanted = {metric: columns for metric, columns in self.metrics if len(lacking.get(metric, ()))}
        if not wanted:
            return []
        rows = np.unique(np.concatenate([lacking[metric] for metric in wanted]))
        ids = examples["example_id"].take(pa.array(rows))
        numbers = _index(self.path, self.manifest_sha256).find(ids)
        rows, numbers = rows[numbers >= 0], numbers[numbers >= 0]
        plain = ["example_id", NOTES_FIELD.name, *(["extra"] if self.plugins & wanted.keys() else [])]
        names = (*plain, *(name for columns in wanted.values() for name in columns))
        copied: list[tuple[str, RowScores]] = []
        for at, there in _rows(self, numbers, names):
            mine = rows[at]
            same = pc.equal(there["example_id"], examples["example_id"].take(pa.array(mine)))
            for metric, columns in wanted.items():
                usable = np.isin(mine, lacking[metric]) & np.asarray(same)
                if metric in self.plugins:
                    usable &= _alike(there["extra"], examples["extra"].take(pa.array(mine)))
                copied.append((metric, self._copied(metric, columns, there, mine, usable, notes)))
        return [(metric, each) for metric, each in copied if len(each.rows)]

    def _copied(
        self,
        metric: str,
        columns: tuple[str, ...],
        there: pa.Table,
        mine: NDArray[np.int64],
        usable: NDArray[np.bool_],
        notes: Mapping[int, Sequence[str]],
    ) -> RowScores:
        """A metric's scores in those of these rows that are usable, and whose notes allow it."""
        texts = there[NOTES_FIELD.name].to_pylist()
        scored = {*self.reader.scores}
        own: list[list[str]] = []
        for row, of_row in enumerate(texts):
            own.append([text for text in of_row or () if column_of_note(text) in columns])
            others = [text for text in of_row or () if column_of_note(text) not in scored]
            unclear = metric in self.plugins and {*others} - {*notes.get(int(mine[row]), ())}
            usable[row] &= not unclear and not any(OUT_OF_MEMORY in text for text in own[row])
        at = np.flatnonzero(usable)
        arrays = {name: _array(there[name].take(pa.array(at))) for name in columns}
        return RowScores(mine[at], arrays, [own[row] for row in at])


def scores_of(there: pa.Table, metrics: Iterable[tuple[str, tuple[str, ...]]]) -> list[tuple[str, RowScores]]:
    """The scores that these rows of a table have themselves."""
    texts = there[NOTES_FIELD.name].to_pylist()
    rows = np.arange(there.num_rows)
    return [
        (
            metric,
            RowScores(
                rows,
                {name: _array(there[name]) for name in columns},
                [[text for text in of_row or () if column_of_note(text) in columns] for of_row in texts],
            ),
        )
        for metric, columns in metrics
        if there.num_rows
    ]


def notes_of_reading(there: pa.Table, scores: Iterable[str]) -> list[tuple[int, str]]:
    """The notes of rows of a table that begin with the name of none of these columns."""
    texts = enumerate(there[NOTES_FIELD.name].to_pylist())
    names = {*scores}
    return [(row, text) for row, of_row in texts for text in of_row or () if column_of_note(text) not in names]


def _array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _alike(one: pa.ChunkedArray, other: pa.ChunkedArray) -> NDArray[np.bool_]:
    pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
    return np.array([mine == theirs for mine, theirs in pairs], bool)


class _Index(NamedTuple):
    """The rows of a table in the order of their ids' beginnings, and where each row group lies: its first row, the
    index of its part, and its own in that.
    """

    prefixes: NDArray[np.bytes_]
    rows: NDArray[np.int64]
    groups: list[tuple[int, int, int]]

    def find(self, ids: pa.ChunkedArray) -> NDArray[np.int64]:
        """The first row with each of these ids, or -1. Another one with the same beginning is not told apart."""
        if not len(self.rows):
            return np.full(len(ids), -1)
        wanted = _prefixes(ids)
        at = np.minimum(np.searchsorted(self.prefixes, wanted), len(self.rows) - 1)
        return np.where(self.prefixes[at] == wanted, self.rows[at], -1)


@lru_cache(maxsize=16)
def _reader(path: str, manifest_sha256: str) -> TableReader:
    table = TableReader(path)
    if table.manifest_sha256 != manifest_sha256:
        raise UserError("the table was replaced while it was read", where=path, remedy="run the same command again")
    return table


@lru_cache(maxsize=16)
def _index(path: str, manifest_sha256: str) -> _Index:
    """16 bytes and a number a row, in memory once a process: 10 million rows take 240 MB."""
    table = _reader(path, manifest_sha256)
    first = table.manifest.contract.version == FIRST.version
    prefixes, groups, start = [np.empty(0, f"S{PREFIX}")], [], 0
    for part, group, ids in table.row_groups(["example_id", *(["messages", "extra"] if first else [])]):
        groups.append((start, part, group))
        start += ids.num_rows
        prefixes.append(_prefixes(_renamed(ids) if first else ids["example_id"]))
    whole = np.concatenate(prefixes)
    order = np.argsort(whole, kind="stable")
    return _Index(whole[order], order, groups)


def _renamed(rows: pa.Table) -> pa.ChunkedArray:
    """The ids that rows would have now; none where that is another one."""
    columns = (rows[name].to_pylist() for name in ("example_id", "messages", "extra"))
    now = (
        (identity, example_id([(turn["role"], turn["content"]) for turn in turns], extra))
        for identity, turns, extra in zip(*columns, strict=True)
    )
    return pa.chunked_array([pa.array([mine if mine == there else "" for there, mine in now], pa.string())])


def _prefixes(ids: pa.ChunkedArray) -> NDArray[np.bytes_]:
    return np.array(pc.utf8_slice_codeunits(ids, 0, PREFIX).to_numpy(), f"S{PREFIX}")


def _rows(
    table: StoredTable, numbers: NDArray[np.int64], names: tuple[str, ...]
) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
    """These rows of a table, by row group: which of the numbers, and the rows."""
    index = _index(table.path, table.manifest_sha256)
    groups = np.searchsorted([start for start, _, _ in index.groups], numbers, side="right") - 1
    for group in np.unique(groups):
        at = np.flatnonzero(groups == group)
        start, part, inside = index.groups[group]
        whole = _row_group(table.path, table.manifest_sha256, part, inside, names)
        yield at, whole.take(pa.array(numbers[at] - start))


@lru_cache(maxsize=2)
def _row_group(path: str, manifest_sha256: str, part: int, group: int, names: tuple[str, ...]) -> pa.Table:
    """The next shard is likely to want the same one: inputs keep their order, whatever they are called."""
    return _reader(path, manifest_sha256).row_group(part, group, names)
