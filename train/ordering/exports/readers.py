"""The ids of rows as files have them: those of an export, and what a trainer says that it has consumed."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from curricle.schemas.common.errors import UserError
from curricle.train.data.parquet import BATCH_ROWS, id_bytes
from curricle.train.ordering.exports.formats import ID, ExportFormat
from numpy.typing import NDArray


def exported_ids(form: ExportFormat, directory: Path) -> NDArray[np.uint8]:
    """The ids of the rows of an export in the order of its files, uint8 (rows, 16). UserError where there are none."""
    path = directory / form.data
    if form.file == "parquet":
        return _bytes(it for part in sorted(path.glob("*.parquet")) for it in _of_parquet(part))
    return _bytes(_of_shards(path) if form.file == "mds" else _of_lines(path))


def consumed_ids(path: Path) -> NDArray[np.uint8]:
    """Ids from a file: one a line, or JSON lines or Parquet with ``example_id``. UserError for anything else."""
    return _bytes(_of_parquet(path) if path.suffix == ".parquet" else _of_lines(path))


def _bytes(ids: Iterable[str]) -> NDArray[np.uint8]:
    remaining, parts = iter(ids), [np.empty((0, 16), np.uint8)]
    while chunk := list(islice(remaining, BATCH_ROWS)):
        parts.append(id_bytes(pa.array(chunk, pa.string())))
    return np.concatenate(parts)


def _of_parquet(path: Path) -> Iterator[str]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=[ID]):
                yield from batch.column(0).to_pylist()
    except (OSError, KeyError, IndexError, pa.ArrowException) as error:
        raise _unread(path, f"has no ids: {error}") from error


def _of_lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                text = line.strip()
                if text.startswith("{"):
                    value = json.loads(text).get(ID)
                    if not isinstance(value, str):
                        raise _unread(path, f"line {number:,} has no {ID}")
                    yield value
                elif text:
                    yield text.strip('"')
    except (OSError, ValueError, RecursionError) as error:
        raise _unread(path, str(error)) from error


def _of_shards(directory: Path) -> Iterator[str]:
    try:
        index = json.loads((directory / "index.json").read_bytes())
        for shard in index["shards"]:
            at = shard["column_names"].index(ID)
            content = memoryview((directory / shard["raw_data"]["basename"]).read_bytes())
            offsets = np.frombuffer(content, "<u4", shard["samples"] + 1, offset=4)
            for begin in offsets[:-1].tolist():
                sizes = np.frombuffer(content, "<u4", len(shard["column_names"]), offset=begin)
                start = begin + sizes.nbytes + int(sizes[:at].sum())
                yield bytes(content[start : start + int(sizes[at])]).decode()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unread(directory, f"cannot be read: {error!r}") from error


def _unread(path: Path, found: str) -> UserError:
    return UserError(found, where=str(path), remedy=f"give ids one a line, or JSON lines or Parquet with {ID}")
