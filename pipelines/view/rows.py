"""The rows of a table, or its rejects, as somebody looks for them: by an expression, by text, in the order of a column.

A row group holds up to 64 MiB of text, and rows that a score has sorted lie in all of them. So that a page does not
read the whole table, the start of each prompt and of each response stays in memory, some 300 bytes a row, and so do
columns that were sorted or filtered by. Only a row that is looked at alone is read whole, with its row group.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from curricle.curate.report.distributions import is_category, is_numeric
from curricle.curate.selection.expression import parse
from curricle.curate.selection.order import RowIndices
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError
from numpy.typing import NDArray

START = 160
"""Characters of a text that stay in memory."""
RESULTS = 16
"""Orders that stay in memory, of 8 bytes a row."""
POSITION = ("source", "source_position")


@dataclass(frozen=True)
class Query:
    """What is looked for.

    ``where``: an expression as ``curricle select`` has it. ``search``: a text, in any case. ``by``: the column that
    sorts, lowest first unless ``high``; empty, the order of the table.
    """

    where: str = ""
    search: str = ""
    by: str = ""
    high: bool = False


class Sheet(ABC):
    """What rows and rejects have in common.

    A list shows ``texts``, by their headings, and ``columns``; ``names`` are the columns that filter and sort.
    ``count``: how many rows there are.
    """

    texts: tuple[str, str]

    def __init__(self, table: TableReader, columns: Sequence[str], names: Sequence[str], count: int) -> None:
        self.table, self.columns, self.names, self.count = table, columns, names, count
        self.find = lru_cache(RESULTS)(self._find)
        self._containing = lru_cache(RESULTS)(self._search)
        self._columns: dict[str, pl.Series] = {}
        self._starts: Sequence[pa.ChunkedArray] = ()

    def frame(self, names: Sequence[str]) -> pl.DataFrame:
        """These columns of all rows."""
        if missing := [name for name in names if name not in self._columns]:
            self._columns |= {column.name: column for column in pl.DataFrame(self._read(missing))}
        return pl.DataFrame([self._columns[name] for name in names])

    def starts(self, rows: RowIndices) -> list[tuple[str | None, ...]]:
        """The start of what a list shows of each of these rows."""
        return [*zip(*(texts.take(pa.array(rows)).to_pylist() for texts in self._starts), strict=True)]

    @abstractmethod
    def whole(self, row: int) -> dict[str, Any]:
        """All that is known of one row, but for vectors."""

    @abstractmethod
    def _read(self, names: Sequence[str]) -> pa.Table:
        """These columns of all rows."""

    @abstractmethod
    def _texts(self) -> Iterator[tuple[pa.Array, RowIndices]]:
        """Texts that can be searched, and of which row each is, a row group at a time."""

    def _find(self, query: Query) -> RowIndices:
        """The numbers of the rows that are looked for, in order; UsageError for what cannot be asked."""
        rows = np.arange(self.count)
        if query.where:
            condition = parse(query.where, self.names)
            rows = rows[condition.mask(self.frame(condition.columns)).fill_null(False).to_numpy()]
        if query.search:
            rows = rows[self._containing(query.search)[rows]]
        if query.by:
            if query.by not in self.names:
                raise UsageError(f"no column {query.by!r} to sort by", remedy=nearest(query.by, self.names))
            values = self.frame([query.by])[query.by].gather(rows)
            values = values.fill_nan(None) if values.dtype.is_float() else values
            rows = rows[_order(values, query.high)]
        return rows

    def _search(self, text: str) -> NDArray[np.bool_]:
        """Whether each row holds the text."""
        result = np.zeros(self.count, np.bool_)
        for texts, rows in self._texts():
            there = pc.fill_null(pc.match_substring(texts, text, ignore_case=True), False)
            result[rows[there.to_numpy(zero_copy_only=False)]] = True
        return result


class RowSheet(Sheet):
    """The rows of the table."""

    texts = ("prompt", "response")

    def __init__(self, table: TableReader) -> None:
        scores = [name for name, column in table.scores.items() if is_numeric(column) or is_category(column)]
        super().__init__(table, scores, [*scores, *POSITION, "example_id"], table.manifest.total.scored)
        starts = [_starts(group["messages"].combine_chunks()) for group in table.groups(["messages"])]
        self._starts = [pa.chunked_array([group[turn] for group in starts], pa.string()) for turn in range(2)]

    def whole(self, row: int) -> dict[str, Any]:
        shown = [field.name for field in self.table.schema if not pa.types.is_list(field.type)]
        ((_, group),) = self.table.rows(np.array([row]), [*shown, "messages", "notes"])
        return dict(group.to_pylist()[0])

    def _read(self, names: Sequence[str]) -> pa.Table:
        return self.table.columns(names)

    def _texts(self) -> Iterator[tuple[pa.Array, RowIndices]]:
        start = 0
        for group in self.table.groups(["messages", "extra"]):
            messages = group["messages"].combine_chunks()
            yield pc.struct_field(pc.list_flatten(messages), "content"), start + _parents(messages)
            yield group["extra"].combine_chunks(), start + np.arange(len(group))
            start += len(group)


class RejectSheet(Sheet):
    """The records that are not in the table."""

    texts = ("reason", "record")

    def __init__(self, table: TableReader) -> None:
        super().__init__(table, POSITION, [*POSITION, "reason"], table.manifest.total.rejected)
        texts = table.reject_columns(["reason", "raw"])
        self._starts = [pc.utf8_slice_codeunits(texts[name], 0, START) for name in texts.column_names]

    def whole(self, row: int) -> dict[str, Any]:
        ((_, group),) = self.table.rejects(np.array([row]))
        return dict(group.to_pylist()[0])

    def _read(self, names: Sequence[str]) -> pa.Table:
        return self.table.reject_columns(names)

    def _texts(self) -> Iterator[tuple[pa.Array, RowIndices]]:
        for rows, group in self.table.rejects(np.arange(self.count), ["reason", "raw"]):
            for name in group.column_names:
                yield group[name].combine_chunks(), rows


def _order(values: pl.Series, high: bool) -> RowIndices:
    """What sorts the values, those that are equal in the order of the table, and the nulls last."""
    indexed = pl.DataFrame({"value": values}).with_row_index()
    ordered = indexed.sort("value", descending=high, nulls_last=True, maintain_order=True)
    return ordered["index"].cast(pl.Int64).to_numpy()


def _parents(messages: pa.Array) -> RowIndices:
    """The index of the row that each message belongs to."""
    return np.asarray(pc.list_parent_indices(messages).to_numpy(), np.int64)


def _starts(messages: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The start of the first message of each row that is not the system's, and of the last one of the assistant."""
    turns, parents = pc.list_flatten(messages), _parents(messages)
    roles = pc.struct_field(turns, "role")
    opening = _indices(pc.not_equal(roles, "system"))[::-1]  # where several are given for one row, the last counts
    answer = _indices(pc.equal(roles, "assistant"))
    starts = []
    for turn in (opening, answer):
        chosen = np.full(len(messages), -1)
        chosen[parents[turn]] = turn
        texts = pc.struct_field(turns, "content").take(pa.array(chosen, mask=chosen < 0))
        starts.append(pc.utf8_slice_codeunits(texts, 0, START))
    return starts[0], starts[1]


def _indices(mask: pa.Array) -> RowIndices:
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False))
