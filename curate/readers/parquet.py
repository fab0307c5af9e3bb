"""Rows of a Parquet file.

Texts are read as Arrow dictionaries: Parquet stores a text that repeats once, and a file of kilobytes can hold a
million rows of a megabyte each. Rows are unfolded a few at a time, when it is known how large they are.

Of the footer only what row groups say is looked at: Arrow ends the process where that of a column chunk is damaged.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from curricle.curate.readers.base import Extent, Reader, Slice, SlicesRead
from curricle.curate.readers.records import Record
from curricle.curate.readers.rows import VALUE_BYTES, bounded, check_names, row_bytes, until
from curricle.curate.readers.streams import UNREADABLE, StoredFile, SurveyedFile
from curricle.schemas.common.errors import UsageError

BATCH_ROWS = 1024
BATCH_BYTES = 1 << 29  # of what is not read as a dictionary, if every text were as long as it can be
BUFFER_BYTES = 1 << 20  # without it a column chunk, however large, is read at once


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
        done, damage, schema = 0, "it has fewer rows than the file says", self.plain.schema_arrow
        try:
            for batch in self._batches(group):
                for start, stop in ranges:
                    low, high = max(start - done, 0), min(stop - done, batch.num_rows)
                    if low < high:
                        yield from bounded(batch.slice(low, high - low), schema, first + done + low, limit)
                done += batch.num_rows
                if done >= ranges[-1][1]:
                    return
        except UNREADABLE as error:
            damage = str(error)
        for start, stop in ranges:
            for row in range(max(start, done), stop):
                yield Record(first + row, None, f"row group {group} cannot be read: {damage}")


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
    check_names(plain.schema_arrow, name)
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
                yield part, until(everything, part)


def _rows_of(size: int) -> int:
    """How many rows of this size make a batch."""
    return min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, size)))
