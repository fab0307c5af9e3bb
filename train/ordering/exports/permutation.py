"""Rows of Parquet files in any order, in flat memory: a distribution sort over disk.

A row group is read as a whole, so that rows part one batch after the other
would read a table larger than memory once for each batch. So the table is read once, from its beginning to its end, and
each row goes into the file of the block of the order that it belongs to; then each block is loaded, sorted and passed
on. That reads and writes each visited row twice, whatever the order, and holds one block in memory. A table of one
block does not go through a file.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from curricle.schemas.parquet import open_parquet
from curricle.train.data.parquet import ParquetTable
from curricle.train.data.table import Rows
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 26
MOST_BLOCKS = 256  # files that are open at a time; from 16 GiB on, blocks grow instead
READ_ROWS, ROWS = 8192, 1024


def in_order(
    files: ParquetTable, rows: Rows, columns: Sequence[str], lengths: NDArray[np.int64], scratch: Path
) -> Iterator[pa.RecordBatch]:
    """These rows, in this order, a row as often as it comes; at most 1,024 at a time.

    ``rows``: of the files, int64 (visits,). ``lengths``: of each, in any unit, so that blocks are about equally large.
    ``scratch``: a directory for what is on its way.
    """
    blocks = min(MOST_BLOCKS, max(1, -(-_bytes(files, columns, len(rows)) // BLOCK_BYTES)))
    done = np.cumsum(lengths, dtype=np.int64)
    edges = np.searchsorted(done, done[-1] * np.arange(1, blocks) / blocks)
    schema = pa.schema([files.schema.field(name) for name in columns]).append(pa.field("at", pa.int64()))
    if not len(edges):
        yield from _sorted([part for _, part in _parts(files, rows, columns, edges, schema)], schema)
        return
    scratch.mkdir(parents=True, exist_ok=True)
    paths = [scratch / f"{block:03}.arrow" for block in range(blocks)]
    with ExitStack() as stack:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        writers = [stack.enter_context(pa.ipc.new_stream(str(path), schema, options=options)) for path in paths]
        for block, part in _parts(files, rows, columns, edges, schema):
            writers[block].write_batch(part)
    for path in paths:
        with pa.ipc.open_stream(str(path)) as reader:
            parts = list(reader)
        path.unlink()
        yield from _sorted(parts, schema)


def _parts(
    files: ParquetTable, rows: Rows, columns: Sequence[str], edges: Rows, schema: pa.Schema
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """What is visited of each batch of the files, with where in the order, by its block."""
    by_row = np.argsort(rows, kind="stable")
    visited, first = rows[by_row], 0
    for path in files.paths:
        with open_parquet(path) as file:
            for batch in file.iter_batches(columns=list(columns), batch_size=READ_ROWS):
                start, end = np.searchsorted(visited, (first, first + len(batch)))
                at, wanted = by_row[start:end], visited[start:end] - first
                first += len(batch)
                whole = pa.record_batch([batch.column(name).cast(schema.field(name).type) for name in columns], columns)
                block = np.searchsorted(edges, at, side="right")
                for one in np.unique(block):
                    mine = block == one
                    part = whole.take(pa.array(wanted[mine])).append_column("at", pa.array(at[mine]))
                    yield int(one), pa.RecordBatch.from_arrays(part.columns, schema=schema)


def _sorted(parts: Sequence[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    block = pa.Table.from_batches(parts, schema)
    indices = np.argsort(block["at"].to_numpy())
    block = block.drop_columns(["at"])
    for start in range(0, len(indices), ROWS):
        part = block.take(pa.array(indices[start : start + ROWS])).combine_chunks()
        yield from part.to_batches()


def _bytes(files: ParquetTable, columns: Sequence[str], visits: int) -> int:
    """About what so many rows take in memory, as the footers have it."""
    total = 0
    for path in files.paths:
        footer = pq.read_metadata(path)
        for group in map(footer.row_group, range(footer.num_row_groups)):
            chunks = map(group.column, range(group.num_columns))
            total += sum(it.total_uncompressed_size for it in chunks if it.path_in_schema.split(".")[0] in columns)
    return total * visits // max(1, len(files))
