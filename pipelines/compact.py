"""From finished shards to the parts that a training team sees.

What comes out depends on the rows alone, not on shards, workers or engine: rows are regrouped at fixed
counts and sizes of their text, and written with fixed settings.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.directory import SCRATCH, OutputDirectory
from schemas.errors import UserError
from schemas.exchange import NEXT
from schemas.fingerprint import file_sha256
from schemas.manifest import Part

GROUP_ROWS = 64 * 1024
GROUP_TEXT_BYTES = 64 * 2**20  # long conversations: a row group stays readable in little memory
PART_BYTES = 256 * 2**20


@dataclass(frozen=True)
class ShardFile:
    """A finished shard's file, and the digest that its receipt has of it."""

    name: str
    sha256: str
    receipt: str


def compact(
    directory: OutputDirectory, run: str, folder: str, shards: Iterable[ShardFile], schema: pa.Schema
) -> list[Part]:
    """Write the rows of shard files, in order, as ``write_parts`` does.

    UserError if a shard is not as it was written: its receipt is withdrawn, so that the same command scores it again.
    """
    return write_parts(directory, run, folder, _tables(directory, shards, schema), schema)


def write_parts(
    directory: OutputDirectory, run: str, folder: str, tables: Iterable[pa.Table], schema: pa.Schema
) -> list[Part]:
    """Write the rows of tables, in order, as Parquet parts of the table that is to take its place; at least one, even
    if empty. Their paths are those that they will have, in ``folder``.

    Held if another run than ``run`` took the directory over meanwhile, before anything of its table is touched.
    """
    storage = directory.storage
    groups = _ahead(row_groups(tables, schema))
    written = list(_write_parts(directory, f"{SCRATCH}/{run}/{folder}", groups, schema))
    directory.check_held_by(run)
    storage.remove(f"{NEXT}/{folder}")
    parts = []
    for index, (name, part) in enumerate(written):
        path = f"{folder}/part-{index:05d}-of-{len(written):05d}.parquet"
        directory.check_held_by(run)
        storage.move(name, f"{NEXT}/{path}")
        parts.append(Part(path=path, **part))
    return parts


def _tables(directory: OutputDirectory, shards: Iterable[ShardFile], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of each shard."""
    for shard in shards:
        with _local(directory, shard) as path, _as_written(directory, shard, path) as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                assert batch.schema.equals(schema), f"{path} was written with other columns"
                # the file-level metadata (fingerprint, contract) is that of the table, not of a shard
                yield pa.Table.from_arrays(batch.columns, schema=schema)


def _as_written(directory: OutputDirectory, shard: ShardFile, path: Path) -> pa.MemoryMappedFile:
    with path.open("rb") as stream:
        whole = file_sha256(stream) == shard.sha256
    if not whole:
        raise _withdrawn(directory, shard, "the bytes of a finished shard are not those that were written")
    return pa.memory_map(str(path))


@contextmanager
def _local(directory: OutputDirectory, shard: ShardFile) -> Iterator[Path]:
    if not directory.storage.exists(shard.name):
        raise _withdrawn(directory, shard, "a file of a finished shard is gone")
    with directory.storage.local(shard.name) as path:
        yield path


def _withdrawn(directory: OutputDirectory, shard: ShardFile, found: str) -> UserError:
    directory.storage.remove(shard.receipt)
    remedy = "check the disk; the same command scores this shard again"
    return UserError(found, where=directory.storage.uri(shard.name), remedy=remedy)


def row_groups(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows, in groups that end where a row fills them; at least one group, even if it is empty."""
    group: list[pa.Table] = []
    rows = text = total = 0
    for table in tables:
        sizes, start = _text_bytes(table), 0
        while start < len(sizes):
            reached = text + np.cumsum(sizes[start : start + GROUP_ROWS - rows])
            take = min(len(reached), int(np.searchsorted(reached, GROUP_TEXT_BYTES)) + 1)
            group.append(table.slice(start, take))
            start, rows, text = start + take, rows + take, int(reached[take - 1])
            if rows == GROUP_ROWS or text >= GROUP_TEXT_BYTES:
                yield pa.concat_tables(group).combine_chunks()
                total += rows
                group, rows, text = [], 0, 0
    if group or not total:
        yield pa.concat_tables([schema.empty_table(), *group]).combine_chunks()


def _ahead(groups: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same groups, the next one in the making while the last one is written."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, groups, None)
        while (group := following.result()) is not None:
            following = thread.submit(next, groups, None)
            yield group


def _text_bytes(table: pa.Table) -> NDArray[np.int64]:
    """Bytes of text in each row: unlike ``nbytes`` they do not depend on how the arrays came about."""
    sizes = np.zeros(table.num_rows, np.int64)
    for field in table.schema:
        if pa.types.is_string(field.type):
            sizes += _lengths(table[field.name])
    if "messages" in table.column_names:
        contents = pc.struct_field(pc.list_flatten(table["messages"]), "content")
        turn_of = pc.list_parent_indices(table["messages"]).to_numpy()
        sizes += np.bincount(turn_of, _lengths(contents), len(sizes)).astype(np.int64)
    return sizes


def _lengths(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    return pc.fill_null(pc.binary_length(texts), 0).to_numpy().astype(np.int64)


def _write_parts(
    directory: OutputDirectory, scratch: str, groups: Iterator[pa.Table], schema: pa.Schema
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of each part as it was written, and what the manifest says of it."""
    group, index = next(groups, None), 0
    while group is not None:
        name, rows = f"{scratch}/{index}.parquet", 0
        with directory.storage.writing(name) as path:
            with (
                path.open("wb") as sink,
                pq.ParquetWriter(sink, schema, compression="zstd", write_page_index=True) as writer,
            ):
                while group is not None and sink.tell() < PART_BYTES:
                    writer.write_table(group, row_group_size=max(1, group.num_rows))
                    rows += group.num_rows
                    group = next(groups, None)
            with path.open("rb") as stream:
                about = {"rows": rows, "bytes": path.stat().st_size, "sha256": file_sha256(stream)}
        yield name, about
        index += 1
