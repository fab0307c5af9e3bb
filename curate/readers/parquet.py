"""Rows of a Parquet file as JSON values."""

import base64
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from curate.readers.records import RAW_LIMIT, Record, too_long
from curate.readers.streams import UNREADABLE
from schemas.errors import UsageError

BATCH_ROWS = 1024
BUFFER_BYTES = 1 << 20  # without it a column chunk, however large, is read at once


def open_parquet(stream: BinaryIO, name: str) -> pq.ParquetFile:
    """The file with its footer read. Raises UsageError if it is no Parquet or two columns have one name."""
    try:
        file = pq.ParquetFile(stream, buffer_size=BUFFER_BYTES)
        names = file.schema_arrow.names
    except UNREADABLE as error:
        raise UsageError(f"not Parquet: {error}", where=name, remedy="fetch or write the file again") from error
    twice = {column for column in names if names.count(column) > 1}
    if twice:
        raise UsageError(f"two columns are named {min(twice)!r}", where=name, remedy="rename one of them")
    return file


def rows(file: pq.ParquetFile, ranges: Sequence[tuple[int, int]], limit: int) -> Iterator[Record]:
    """The rows in these half-open ranges, which are in order; a row that cannot be read has a reason."""
    first = 0
    for group in range(file.metadata.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        inside = [(max(a - first, 0), min(b - first, count)) for a, b in ranges if a < first + count and b > first]
        if inside:
            yield from _group(file, group, first, inside, limit)
        first += count


def _group(
    file: pq.ParquetFile, group: int, first: int, ranges: Sequence[tuple[int, int]], limit: int
) -> Iterator[Record]:
    """Rows of one row group, which begins at row ``first``. What lies after damage in it cannot be read."""
    done, damage = 0, "it has fewer rows than the file says"
    try:
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group]):
            for start, stop in ranges:
                low, high = max(start - done, 0), min(stop - done, batch.num_rows)
                if low < high:
                    yield from _batch(batch.slice(low, high - low), first + done + low, limit)
            done += batch.num_rows
    except UNREADABLE as error:
        damage = str(error)
    for start, stop in ranges:
        for row in range(max(start, done), stop):
            yield Record(first + row, None, f"row group {group} cannot be read: {damage}")


def _batch(batch: pa.RecordBatch, first: int, limit: int) -> Iterator[Record]:
    try:
        values = batch.to_pylist()
    except (ValueError, OverflowError) as error:  # one value that has no Python form spoils the batch
        if batch.num_rows == 1:
            yield Record(first, None, f"a value cannot be read: {error}")
            return
        for row in range(batch.num_rows):
            yield from _batch(batch.slice(row, 1), first + row, limit)
        return
    large = batch.nbytes > limit
    for position, value in enumerate(values, first):
        record = {name: plain(item) for name, item in value.items()}
        if large and (length := len(text := json.dumps(record, ensure_ascii=False).encode())) > limit:
            yield too_long(position, length, limit, text[: 4 * RAW_LIMIT])
        else:
            yield Record(position, record)


def plain(value: Any) -> Any:
    """A value as JSON can hold it.

    NaN and infinities, which Parquet allows and JSON does not, become null; dates and times ISO 8601;
    bytes Base64; decimals and what else there is the text that Python shows.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
