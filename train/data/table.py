"""The difficulty table as the trainer sees it: scores in memory by column, text on disk until it is trained on."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError, usage_errors
from curricle.schemas.identity import RESTS_ON
from curricle.train.data.parquet import ParquetTable, missing_column, missing_score
from numpy.typing import NDArray

NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
Rows: TypeAlias = NDArray[np.int64]
"""Row numbers of the table, from 0, in the order in which they are meant."""


@dataclass(frozen=True)
class Example:
    """The text of one row: ``{"role": …, "content": …}`` turns, and the input's other fields as a JSON object.

    ``remark``: what the table has there that is neither; then there are no turns, or no fields.
    """

    messages: list[dict[str, str]]
    extra: str | None
    remark: str | None = None

    @classmethod
    def of(cls, messages: object, extra: object) -> "Example":
        """From the values of Parquet that anybody may have written."""
        turns = [turn if isinstance(turn, dict) else {} for turn in messages] if isinstance(messages, list) else None
        if turns is None:
            return cls([], None, "the conversation is null")
        if not all(isinstance(turn.get(key), str) for turn in turns for key in ("role", "content")):
            return cls([], None, "a turn has no role or no content")
        plain = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
        if extra is None or (isinstance(extra, str) and _is_object(extra)):
            return cls(plain, extra)
        return cls(plain, None, "extra is no JSON object, and is left out")


FEWEST = 2
"""Rows that an order needs."""


@usage_errors()
def open_table(
    data: str | Path | Sequence[str | Path], join: Sequence[str | Path] = (), *, fewest: int = FEWEST
) -> "Table":
    """Open a scored table: scores in memory by column, texts on disk until they are asked for.

    ``data``: a directory that ``curricle score`` wrote, or Parquet files with its columns, among them ``example_id``.
    ``join``: Parquet files with more score columns, joined on ``example_id``. ``fewest``: rows that it has to have.
    Raises UsageError for what is not whole, not signed alike, or too small.
    """
    table = Table(ParquetTable(data), [ParquetTable(each) for each in join])
    if len(table) < fewest:
        raise UsageError(
            f"the table has {len(table)} row{'s' * (len(table) != 1)}, "
            + ("and an order needs two" if fewest == FEWEST else "so that there is nothing to look at"),
            where=table.where,
            remedy="name a table with more rows",
        )
    return table


def check_open(table: object) -> None:
    """TypeError for a path instead of a table."""
    if not isinstance(table, Table):
        raise TypeError(f"{table!r} is no open table: train.open_table(…) gives one")


class Table:
    """A scored table, as ``open_table`` gives it: rows numbered from 0 in the order of the files; ``len`` counts them.

    ``ids``: example ids, uint8 (rows, 16). ``fingerprint``: the identity of the scores, None if they are not signed.
    ``notes``: what a person should know of the columns read so far: nulls, and coverage of joins.
    """

    def __init__(
        self,
        files: ParquetTable,
        joins: Sequence[ParquetTable] = (),
        picked: Rows | None = None,
        ids: NDArray[np.uint8] | None = None,
    ) -> None:
        self._files, self._joins, self._picked = files, list(joins), picked
        self.ids: NDArray[np.uint8] = files.ids() if ids is None else ids
        self.fingerprint = files.fingerprint
        self.where = files.where
        self.notes: list[str] = []
        self._held_out: Table | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<Table {self.where}: {len(self):,} rows>"

    @property
    def files(self) -> ParquetTable:
        """The files that it is of, with all their rows, see ``origin``; without those that are joined."""
        return self._files

    @cached_property
    def digest(self) -> str:
        """32 hex digits that identify the examples and their order."""
        return blake2b(np.ascontiguousarray(self.ids).data, digest_size=16).hexdigest()

    @property
    def columns(self) -> list[str]:
        """The names of all columns, joined ones last."""
        return [name for files in (self._files, *self._joins) for name in files.schema.names]

    @property
    def held_out(self) -> "Table":
        """The rows that are held out of training, as a table of their own, numbered from 0; UsageError if none are."""
        if self._held_out is None:
            raise UsageError(
                "the curriculum asks about held-out rows, and none are held out, or several sets of them",
                where=self.where,
                remedy="give --eval.rows or --eval.data; of several sets, the one to ask about as --eval.tuning",
            )
        return self._held_out

    @held_out.setter
    def held_out(self, table: "Table") -> None:
        self._held_out = table

    @cached_property
    def origin(self) -> Rows:
        """Which row of the files each row is, counted from 0 in the order of the files: int64 (rows,)."""
        return np.arange(len(self), dtype=np.int64) if self._picked is None else self._picked

    def take(self, rows: Rows) -> "Table":
        """A table of these rows alone, in this order, numbered from 0 again. ``rows``: int64 (rows,)."""
        return Table(self._files, self._joins, self.origin[rows], self.ids[rows])

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of numbers as float64 (rows,); NaN where it is null or not finite.

        UsageError if there is no such column, or it holds something else.
        """
        column = self._column(name)
        kind = column.type
        if not any(is_number(kind) for is_number in NUMBERS):
            raise UsageError(
                f"column {name!r} holds {kind}", where=self._files.where, remedy="name a column of numbers"
            )
        values = column.cast(pa.float64(), safe=False).to_numpy().copy()
        values[~np.isfinite(values)] = np.nan
        return values

    def counts(self, *names: str) -> NDArray[np.int64]:
        """The sum of columns of counts, int64 (rows,), of which a row has at least 1; 1 for each row of a table that
        lacks one of them. UsageError if one holds something else.
        """
        if not all(name in self.columns for name in names):
            return np.ones(len(self), np.int64)
        return np.maximum(1, sum(np.nan_to_num(self.numbers(name)) for name in names)).astype(np.int64)

    def difficulty(self, column: str) -> NDArray[np.float64]:
        """A score as float64 (rows,), so that harder rows are higher; NaN where there is none.

        ``column`` is a name whose metadata says which end is hard, or ``name:high`` or ``name:low``.
        UsageError if there is no such column, no direction, or no value at all.
        """
        name, hard = self.direction(column)
        values = self.numbers(name)
        missing = int(np.isnan(values).sum())
        if missing == len(self):
            raise UsageError(
                f"every value of column {name!r} is null",
                where=self._files.where,
                remedy="score the table with the metric that writes it, or name another column",
            )
        if missing:
            self._note(f"{name}: {missing:,} of {len(self):,} rows have no score and are not in this perspective")
        return -values if hard == "low" else values

    def direction(self, column: str) -> tuple[str, str]:
        """The name of a column and its hard end, "high" or "low": as given with it, or from its metadata.

        UsageError if there is no such column, or nothing says which end is hard.
        """
        if (name := column_name(column)) not in self.columns:
            scores = [each for each in self.columns if self.has_direction(each)]
            raise missing_score(name, scores or self.columns, self._files.where)
        name, hard = self._hard_end(column)
        if hard is None:
            raise UsageError(
                f"nothing says which end of column {column!r} is hard",
                where=self._files.where,
                remedy=f"name it {column}:high or {column}:low",
            )
        return name, hard

    def has_direction(self, column: str) -> bool:
        """Whether something says which end of a column is hard."""
        return self._hard_end(column)[1] is not None

    def asks_a_model(self, column: str) -> bool:
        """Whether a model was asked for a score column, NAME or NAME:high or NAME:low, as far as its metadata says."""
        score = self._score(column_name(column))
        return score is not None and bool({*(score.rests_on or RESTS_ON.get(score.metric, ()))} - {"rendering"})

    def check_columns(self, columns: Iterable[str]) -> None:
        """UsageError if there is none of these columns, each a name, or ``name:high`` or ``name:low``."""
        for column in columns:
            if column not in self.columns:
                self._holder(column_name(column))

    def order(self, column: str, seed: int) -> Rows:
        """The rows that have this score, from easy to hard; ties in the order of a seeded hash of their ids.

        ``column``, and errors: as for ``difficulty``.
        """
        return self.sort(self.difficulty(column), seed)

    def sort(self, difficulty: NDArray[np.float64], seed: int) -> Rows:
        """Rows by difficulty (one number for each row of the table); rows without a number (NaN) are left out."""
        shuffled = self.tie_order(seed)
        ranked = shuffled[np.argsort(difficulty[shuffled], kind="stable")]  # NaN sorts last
        return ranked[: len(ranked) - int(np.isnan(difficulty).sum())]

    def tie_order(self, seed: int) -> Rows:
        """All rows in the order of a seeded hash of their ids, which does not depend on where they stand."""
        return self._tie_order(seed)

    @cached_property
    def _tie_order(self):  # type: ignore[no-untyped-def]  # one sort serves every perspective of a seed
        return lru_cache(maxsize=1)(lambda seed: np.argsort(seeded_hash(self.ids, seed), kind="stable"))

    def texts(self, name: str) -> pa.ChunkedArray:
        """A column of texts, in memory; UsageError if it holds something else."""
        column = self._column(name)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise UsageError(
                f"column {name!r} holds {column.type}", where=self._files.where, remedy="name a column of texts"
            )
        return column

    def category(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """Codes 0…k-1 of a column of any simple type, and its k values, sorted; null is a category, the last."""
        column = self._column(name)
        if pa.types.is_nested(column.type):
            raise UsageError(f"column {name!r} holds {column.type}", remedy="name a column of strings or numbers")
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        values = pc.unique(column.drop_null())
        values = values.take(pc.sort_indices(values))
        codes = pc.index_in(column, value_set=values).fill_null(len(values)).to_numpy().astype(np.int64)
        names = [str(value) for value in values.to_pylist()]
        if column.null_count:
            self._note(f"{name}: {column.null_count:,} of {len(self):,} rows have no value and form a category")
            names.append("null")
        return codes, names

    def check_texts(self) -> None:
        """UsageError if there are no conversations."""
        if "messages" not in self._files.schema.names:
            raise missing_column("messages", self._files.schema.names, self._files.where)
        kind = self._files.schema.field("messages").type
        turn = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
        if turn is None or not pa.types.is_struct(turn):
            raise UsageError(
                f"column 'messages' holds {kind}",
                where=self._files.where,
                remedy="give each row a list of turns with a role and a content, as `curricle score` writes them",
            )

    def examples(self, rows: Rows) -> list[Example]:
        """The text of these rows, in this order. Each row group that they touch is read once."""
        self.check_texts()
        records = self._files.text(self.origin[rows])
        return [Example.of(record["messages"], record.get("extra")) for record in records]

    def _hard_end(self, column: str) -> tuple[str, str | None]:
        name, end = _split_off_end(column)
        if end:
            return name, end
        score = self._score(column)
        return column, score.hard if score and score.hard in ("high", "low") else None

    def _score(self, column: str) -> ScoreColumn | None:
        """What the metadata of a column says of it; None where it is not ours."""
        try:
            return ScoreColumn.from_field(self._holder(column).schema.field(column))
        except (TypeError, AttributeError, json.JSONDecodeError, RecursionError):
            return None  # another program's metadata under our key says nothing to us

    def _holder(self, name: str) -> ParquetTable:
        holders = [files for files in (self._files, *self._joins) if name in files.schema.names]
        if not holders:
            raise missing_column(name, self.columns, self._files.where)
        if len(holders) > 1:
            raise UsageError(
                f"column {name!r} stands in the table and in a joined file, or in two of them",
                where=holders[-1].where,
                remedy="rename it in one of them",
            )
        return holders[0]

    def _column(self, name: str) -> pa.ChunkedArray:
        holder = self._holder(name)
        column = holder.column(name)
        if holder is self._files:
            return column if self._picked is None else column.take(pa.array(self._picked))
        where = pc.index_in(_as_arrow(self.ids), value_set=_as_arrow(holder.ids()))  # the first of equal ids
        covered = len(self) - where.null_count
        self._note(f"{name}: joined from {holder.where}, which covers {covered:,} of {len(self):,} rows")
        return column.take(where)

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def column_name(column: str) -> str:
    """The name of a column that is given as NAME or NAME:high or NAME:low."""
    return _split_off_end(column)[0]


def _split_off_end(column: str) -> tuple[str, str | None]:
    """``name:high`` and ``name:low`` as the name and its hard end; any other name alone."""
    name, _, end = column.rpartition(":")
    return (name, end) if name and end in ("high", "low") else (column, None)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _as_arrow(ids: NDArray[np.uint8]) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(ids), [None, pa.py_buffer(ids.tobytes())])


def seeded_hash(ids: NDArray[np.uint8], seed: int) -> NDArray[np.uint64]:
    """64 pseudo-random bits for each example id: splitmix64 of the id and the seed."""
    halves = np.ascontiguousarray(ids).view("<u8").astype(np.uint64)
    mixed = halves[:, 0] ^ _splitmix64(halves[:, 1] + np.uint64(seed % (1 << 64)))
    return _splitmix64(mixed)


def _splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014), on arrays, modulo 2^64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
