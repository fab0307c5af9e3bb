"""Tables of rows to Parquet parts."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from curricle.pipelines.tables.directory import SCRATCH, OutputDirectory
from curricle.schemas.exchange import NEXT
from curricle.schemas.manifest import Part
from curricle.schemas.sums import sha256_of
from numpy.typing import NDArray

GROUP_ROWS = 64 * 1024


GROUP_TEXT_BYTES = 64 * 2**20  # long conversations: a row group stays readable in little memory


PART_BYTES = 256 * 2**20


_TABLES = 256
"""Tables of a few rows that wait for a row group one by one: each takes kilobytes, whatever it holds."""


def write_parts(
    directory: OutputDirectory, run: str, folder: str, tables: Iterable[pa.Table], schema: pa.Schema
) -> list[Part]:
    """Write the rows of tables, in order, as Parquet parts of the table that is to be published; at least one, even
    if empty. Their paths are those that they will have, in ``folder``.

    DirectoryLocked if another run than ``run`` took the directory over meanwhile, before its table is touched.
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


def row_groups(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows, in groups that end where a row fills them; at least one group, even if it is empty."""
    group: list[pa.Table] = []
    whole: list[pa.Table] = []
    rows = text = total = 0
    for table in tables:
        sizes, start = _text_bytes(table), 0
        while start < len(sizes):
            reached = text + np.cumsum(sizes[start : start + GROUP_ROWS - rows])
            take = min(len(reached), int(np.searchsorted(reached, GROUP_TEXT_BYTES)) + 1)
            group.append(table.slice(start, take))
            start, rows, text = start + take, rows + take, int(reached[take - 1])
            if rows == GROUP_ROWS or text >= GROUP_TEXT_BYTES:
                yield pa.concat_tables([*whole, *group]).combine_chunks()
                total += rows
                whole, group, rows, text = [], [], 0, 0
            elif len(group) == _TABLES:
                whole.append(pa.concat_tables(group).combine_chunks())
                group = []
    if whole or group or not total:
        yield pa.concat_tables([schema.empty_table(), *whole, *group]).combine_chunks()


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
            about = {"rows": rows, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        yield name, about
        index += 1
