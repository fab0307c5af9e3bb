"""From finished shards to the parts that a training team sees.

What comes out depends on the rows alone, not on shards, workers or engine: rows are regrouped at fixed
counts and sizes of their text, and written with fixed settings.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.directory import OutputDirectory
from schemas.fingerprint import file_sha256
from schemas.manifest import Part

BLOCK_ROWS = 1024
GROUP_ROWS = 64 * 1024
GROUP_TEXT_BYTES = 64 * 2**20  # long conversations: a row group stays readable in little memory
PART_BYTES = 256 * 2**20


def compact(directory: OutputDirectory, folder: str, shards: Iterable[Path], schema: pa.Schema) -> list[Part]:
    """Write the rows of shard files, in order, as Parquet parts in ``folder``; at least one, even if empty.

    The folder appears whole or not at all; one from an interrupted attempt is replaced.
    """
    beside = directory.scratch / folder
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    paths = _write_parts(beside, _row_groups(_blocks(shards, schema), schema), schema)
    parts = []
    for index, path in enumerate(paths):
        named = path.rename(beside / f"part-{index:05d}-of-{len(paths):05d}.parquet")
        with named.open("rb") as stream:
            sha256 = file_sha256(stream)
        rows = pq.read_metadata(named).num_rows
        parts.append(Part(path=f"{folder}/{named.name}", rows=rows, bytes=named.stat().st_size, sha256=sha256))
    final = directory.root / folder
    shutil.rmtree(final, ignore_errors=True)
    beside.rename(final)
    return parts


def _blocks(shards: Iterable[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows in blocks of fixed length, whatever the lengths of the shards."""
    waiting = schema.empty_table()
    for path in shards:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                assert batch.schema.equals(schema), f"{path} was written with other columns"
                # the file-level metadata (fingerprint, contract) is that of the table, not of a shard
                batch = pa.Table.from_arrays(batch.columns, schema=schema)
                waiting = pa.concat_tables([waiting, batch])
                while waiting.num_rows >= BLOCK_ROWS:
                    yield waiting.slice(0, BLOCK_ROWS)
                    waiting = waiting.slice(BLOCK_ROWS)
    if waiting.num_rows:
        yield waiting


def _row_groups(blocks: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    group: list[pa.Table] = []
    rows = text = total = 0
    for block in blocks:
        group.append(block)
        rows += block.num_rows
        text += _text_bytes(block)
        if rows >= GROUP_ROWS or text >= GROUP_TEXT_BYTES:
            yield pa.concat_tables(group).combine_chunks()
            total += rows
            group, rows, text = [], 0, 0
    if group or not total:
        yield pa.concat_tables([schema.empty_table(), *group]).combine_chunks()


def _text_bytes(block: pa.Table) -> int:
    """Bytes of text in a block: unlike ``nbytes`` it does not depend on how the arrays came about."""
    texts = [block[field.name] for field in block.schema if pa.types.is_string(field.type)]
    if "messages" in block.column_names:
        turns = pc.list_flatten(block["messages"])
        texts.append(pc.struct_field(turns, "content"))
    return sum(pc.sum(pc.binary_length(text)).as_py() or 0 for text in texts)


def _write_parts(folder: Path, groups: Iterator[pa.Table], schema: pa.Schema) -> list[Path]:
    paths: list[Path] = []
    group = next(groups, None)
    while group is not None:
        paths.append(folder / f"{len(paths)}.parquet")
        with paths[-1].open("wb") as sink:
            with pq.ParquetWriter(sink, schema, compression="zstd", write_page_index=True) as writer:
                while group is not None and sink.tell() < PART_BYTES:
                    writer.write_table(group, row_group_size=max(1, group.num_rows))
                    group = next(groups, None)
            sink.flush()
            os.fsync(sink.fileno())
    return paths
