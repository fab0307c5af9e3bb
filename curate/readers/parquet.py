"""Rows of a Parquet file as Python values; which of them JSON can hold is for those who read them.

Texts are read as Arrow dictionaries: Parquet stores a text that repeats once, and a file of kilobytes can hold a
million rows of a megabyte each. Rows are unfolded a few at a time, when it is known how large they are.

Of the footer only what row groups say is looked at: Arrow ends the process where that of a column chunk is damaged.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from curricle.curate.formats.values import Unreadable
from curricle.curate.readers.base import Extent, Reader, Slice, SlicesRead
from curricle.curate.readers.records import RAW_LIMIT, Record, too_long
from curricle.curate.readers.sizes import VALUE_BYTES, row_bytes, value_bytes
from curricle.curate.readers.streams import UNREADABLE, StoredFile, SurveyedFile
from curricle.schemas.common.errors import UsageError

BATCH_ROWS = 1024
BATCH_BYTES = 1 << 29  # of what is not read as a dictionary, if every text were as long as it can be
BUFFER_BYTES = 1 << 20  # without it a column chunk, however large, is read at once

NO_FORM = (ValueError, OverflowError, LookupError)
"""What pyarrow raises for a value that has no Python form."""


@dataclass(frozen=True)
class ParquetRows:
    """The rows of an open file, its texts as dictionaries in ``folded``, and as they are in ``plain``."""

    folded: pq.ParquetFile
    plain: pq.ParquetFile

    @property
    def groups(self) -> list[pq.RowGroupMetaData]:
        return [self.plain.metadata.row_group(index) for index in range(self.plain.metadata.num_row_groups)]

    @property
    def promised_bytes(self) -> int:
        """What the footer says that the file unpacks to at least."""
        columns = len(self.plain.schema)
        return sum(max(group.total_byte_size, VALUE_BYTES * columns * group.num_rows) for group in self.groups)

    def sizes(self) -> Iterator[int]:
        """The bytes of each row, without unfolding it; 0 for rows that cannot be read."""
        for index, group in enumerate(self.groups):
            left = group.num_rows
            try:
                for batch in self._batches(index):
                    yield from row_bytes(batch).tolist()
                    left -= batch.num_rows
            except UNREADABLE:
                pass  # those who read the rows say why
            yield from [0] * left

    def records(self, ranges: Sequence[tuple[int, int]], limit: int) -> Iterator[Record]:
        """The rows in these half-open ranges, which are in order; a row that cannot be read has a reason.

        Whole row groups are skipped; inside one, what comes before a range is read and thrown away.
        """
        first = 0
        for index, group in enumerate(self.groups):
            count = group.num_rows
            inside = [(max(a - first, 0), min(b - first, count)) for a, b in ranges if a < first + count and b > first]
            if inside:
                yield from self._group(index, first, inside, limit)
            first += count

    def _batches(self, group: int) -> Iterator[pa.RecordBatch]:
        """A row group in batches that fit into memory. Raises one of ``UNREADABLE`` where it is damaged."""
        schema = self.plain.schema
        widest = max((schema.column(index).length for index in range(len(schema))), default=0)
        longest = self.plain.metadata.row_group(group).total_byte_size
        done = 0
        try:
            for batch in self.folded.iter_batches(_rows_of(widest), row_groups=[group]):
                yield batch
                done += batch.num_rows
            return
        except UNREADABLE:
            pass  # Arrow has no dictionaries for texts that are stored as what differs from the one before
        for batch in self.plain.iter_batches(_rows_of(max(widest, longest)), row_groups=[group]):
            if done < batch.num_rows:
                yield batch.slice(done)
            done = max(0, done - batch.num_rows)

    def _group(self, group: int, first: int, ranges: Sequence[tuple[int, int]], limit: int) -> Iterator[Record]:
        """Rows of one row group, which begins at row ``first``. What lies after damage in it cannot be read."""
        done, damage = 0, "it has fewer rows than the file says"
        try:
            for batch in self._batches(group):
                for start, stop in ranges:
                    low, high = max(start - done, 0), min(stop - done, batch.num_rows)
                    if low < high:
                        yield from self._bounded(batch.slice(low, high - low), first + done + low, limit)
                done += batch.num_rows
                if done >= ranges[-1][1]:
                    return
        except UNREADABLE as error:
            damage = str(error)
        for start, stop in ranges:
            for row in range(max(start, done), stop):
                yield Record(first + row, None, f"row group {group} cannot be read: {damage}")

    def _bounded(self, batch: pa.RecordBatch, first: int, limit: int) -> Iterator[Record]:
        """The rows of a batch, at most ``limit`` bytes of them unfolded at once."""
        sizes = row_bytes(batch).tolist()
        for low, high in _stretches(sizes, limit):
            part = batch.slice(low, high - low)
            if sizes[low] > limit:
                yield too_long(first + low, sizes[low], limit, self._short_columns(part))
            else:
                yield from self._unfold(part, first + low)

    def _short_columns(self, row: pa.RecordBatch) -> bytes:
        """What can be shown of one row that is too long."""
        short = [index for index, column in enumerate(row.columns) if value_bytes(column)[0] <= RAW_LIMIT]
        return next(self._unfold(row.select(short), 0)).raw.encode() if short else b""

    def _unfold(self, batch: pa.RecordBatch, first: int) -> Iterator[Record]:
        for position, row in enumerate(rows_of(batch, self.plain.schema_arrow), first):
            yield Record(position, row)


def rows_of(batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """The rows as Python has them, maps as objects; ``schema`` has the types of the columns, without dictionaries.

    What has no form in Python, as a map with two equal keys, is ``Unreadable``: a column that nobody needs must not
    decide over its row.
    """
    try:
        columns = [_values(batch, schema, name) for name in batch.schema.names]
    except NO_FORM:  # one value that has no Python form spoils the batch: each is looked at alone
        if batch.num_rows > 1:
            for row in range(batch.num_rows):
                yield from rows_of(batch.slice(row, 1), schema)
            return
        columns = [_value(batch, schema, name) for name in batch.schema.names]
    for values in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, values, strict=True))


def _values(batch: pa.RecordBatch, schema: pa.Schema, name: str) -> list[Any]:
    """A column's values. Raises one of ``NO_FORM``, for two equal keys of a map too."""
    return _as(schema.field(name).type, batch[name]).to_pylist(maps_as_pydicts="strict")


def _value(row: pa.RecordBatch, schema: pa.Schema, name: str) -> list[Any]:
    try:
        return _values(row, schema, name)
    except NO_FORM as error:
        return [Unreadable(str(error.args[0] if isinstance(error, KeyError) else error))]


def open_parquet(stream: BinaryIO, name: str) -> ParquetRows:
    """The file with its footer read. Raises UsageError if it is no Parquet or two columns have one name."""
    options: dict[str, Any] = {"buffer_size": BUFFER_BYTES, "pre_buffer": False, "arrow_extensions_enabled": False}
    try:
        plain = pq.ParquetFile(stream, **options)
        leaves = [plain.schema.column(index) for index in range(len(plain.schema))]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        folded = pq.ParquetFile(stream, metadata=plain.metadata, read_dictionary=texts, **options)
    except UNREADABLE as error:
        raise UsageError(f"not Parquet: {error}", where=name, remedy="fetch or write the file again") from error
    commonest = Counter(plain.schema_arrow.names).most_common(1)
    if commonest and commonest[0][1] > 1:
        raise UsageError(f"two columns are named {commonest[0][0]!r}", where=name, remedy="rename one of them")
    return ParquetRows(folded, plain)


class Parquet(Reader):
    name = "Parquet"
    suffixes: Sequence[str] = (".parquet",)
    compressible = divisible = False  # to reach a row, its row group is read from the start: that may be the whole file

    def extents(self, file: SurveyedFile, limit: int) -> Iterator[Extent]:
        stored_bytes = file.stored.bytes  # read as a whole, before anything in it is believed
        with file.seekable() as stream:
            parquet = open_parquet(stream, file.name)
            file.expansion.check(parquet.promised_bytes, stored_bytes)
            for record in parquet.records([(0, sys.maxsize)], limit):
                if not file.wants:
                    break
                file.look_at(record)
            unpacked = 0
            for row, size in enumerate(parquet.sizes()):
                unpacked += size
                file.expansion.check(unpacked, stored_bytes)
                yield Extent(row, row, row + 1, size, "rows")

    def records(self, file: StoredFile, slices: Sequence[Slice], limit: int) -> SlicesRead:
        with file.seekable() as stream:
            ranges = [(part.start, part.stop) for part in slices]
            everything = open_parquet(stream, file.name).records(ranges, limit)
            for part in slices:
                yield part, _until(everything, part)


def _until(records: Iterator[Record], part: Slice) -> Iterator[Record]:
    """The slice's rows; rows that were left of the slice before are passed over."""
    for record in records:
        if record.position >= part.start:
            yield record
        if record.position == part.stop - 1:
            return


def _rows_of(size: int) -> int:
    """How many rows of this size make a batch."""
    return min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, size)))


def _stretches(sizes: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of rows that have at most ``limit`` bytes together; a row that has more is alone."""
    start = held = 0
    for row, size in enumerate(sizes):
        if row > start and held + size > limit:
            yield start, row
            start, held = row, 0
        held += size
    yield start, len(sizes)


def _as(kind: pa.DataType, array: pa.Array) -> pa.Array:
    """The values as their own type, of which Arrow makes Python's many times faster than of dictionaries."""
    try:
        cast = array.cast(kind)
        cast.validate()  # columns of nothing but null inside lists come out too short
        return cast
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # the values in the dictionary are the same
        return array
