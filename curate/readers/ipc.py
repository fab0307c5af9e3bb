"""Arrow IPC, files and streams: what ``datasets`` saves, Feather, and what polars and DuckDB write as Arrow.

A stream has no index: to reach a row, the batches before it are passed over. Where the file lies on a disk, it is
mapped into memory and not read into it, so that a batch may be as large as the file.
"""

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
from curricle.curate.readers.base import Extent, Reader, Slice, SlicesRead
from curricle.curate.readers.records import Record
from curricle.curate.readers.rows import bounded, check_names, row_bytes, until, without_dictionaries
from curricle.curate.readers.streams import StoredFile, SurveyedFile
from curricle.schemas.common.errors import UsageError

FILE_MAGIC, FEATHER_1 = b"ARROW1", b"FEA1"
SOME_ROWS = 1024
"""Of a batch at once"""

STREAM_BEGINS, STREAM_ENDS = b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\x00\x00\x00\x00"


class Ipc(Reader):
    name = "Arrow IPC"
    suffixes: Sequence[str] = (".arrow", ".feather", ".ipc")
    compressible = divisible = False

    def extents(self, file: SurveyedFile, limit: int) -> Iterator[Extent]:
        stored_bytes = file.stored.bytes
        unpacked = row = 0
        with file.seekable() as stream:
            for batch, schema in _batches(stream, file.name):
                if file.wants:
                    for record in bounded(batch.slice(0, SOME_ROWS), schema, row, limit):
                        if not file.wants:
                            break
                        file.look_at(record)
                for start in range(0, batch.num_rows, SOME_ROWS):
                    for size in row_bytes(batch.slice(start, SOME_ROWS)).tolist():
                        unpacked += size
                        file.expansion.check(unpacked, stored_bytes)
                        yield Extent(row, row, row + 1, size, "rows")
                        row += 1

    def records(self, file: StoredFile, slices: Sequence[Slice], limit: int) -> SlicesRead:
        with file.seekable() as stream:
            everything = _records(stream, file.name, slices, limit)
            for part in slices:
                yield part, until(everything, part)


def _records(stream: BinaryIO, name: str, slices: Sequence[Slice], limit: int) -> Iterator[Record]:
    first, ranges = 0, [(part.start, part.stop) for part in slices]
    for batch, schema in _batches(stream, name):
        for start, stop in ranges:
            low, high = max(start - first, 0), min(stop - first, batch.num_rows)
            for at in range(low, high, SOME_ROWS):
                yield from bounded(batch.slice(at, min(SOME_ROWS, high - at)), schema, first + at, limit)
        first += batch.num_rows
        if first >= ranges[-1][1]:
            return


def _batches(stream: BinaryIO, name: str) -> Iterator[tuple[pa.RecordBatch, pa.Schema]]:
    """The batches, whose bytes were checked, and the schema without dictionaries.

    Raises UsageError for what is no Arrow or cut short, and one of ``streams.UNREADABLE`` for what is damaged.
    """
    head, tail = stream.read(len(FILE_MAGIC)), b""
    if stream.seek(0, 2) >= len(STREAM_ENDS):
        stream.seek(-len(STREAM_ENDS), 2)
        tail = stream.read(len(STREAM_ENDS))
    stream.seek(0)
    remedy = "write the file again"
    if not head:
        raise UsageError("the file has 0 bytes", where=name, remedy="fetch or write the file again, or leave it out")
    if head.startswith(FEATHER_1):
        raise UsageError("Feather of version 1 is not read", where=name, remedy="write it again, as version 2")
    if head.startswith(STREAM_BEGINS) and tail != STREAM_ENDS:
        raise UsageError("the Arrow stream is cut short: it has no end", where=name, remedy=remedy)
    with _mapped(stream) as source:
        is_file = head.startswith(FILE_MAGIC)
        try:
            reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"not Arrow IPC: {error}", where=name, remedy=remedy) from error
        check_names(reader.schema, name)
        schema = without_dictionaries(reader.schema)
        for batch in map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader:
            batch.validate(full=True)  # offsets and indices stand in the file as anybody may write them
            yield batch, schema


@contextmanager
def _mapped(stream: BinaryIO) -> Iterator[Any]:
    """What Arrow reads from: the file's bytes as they lie on the disk, or the stream, if there is no such file."""
    try:
        number = stream.fileno()
    except (OSError, AttributeError):
        yield pa.PythonFile(stream, mode="r")
        return
    # Arrow's buffers keep the map for as long as they are there
    yield pa.BufferReader(pa.py_buffer(mmap.mmap(number, 0, access=mmap.ACCESS_READ)))
