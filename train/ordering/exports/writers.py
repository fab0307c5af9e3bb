"""The files that rows go into: lines of JSON, Parquet, or the shards of MosaicML streaming."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from curricle.train.ordering.exports.formats import ID, ExportFormat, ExportRecord

PART_BYTES = 256 << 20
SHARD_BYTES = 64 << 20
_LINE_ENDS = {ord(each): f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"}
"""Ends of lines to ``str.splitlines``, which readers of lines use; JSON lets them stand."""


class Writer(Protocol):
    """Takes records in order, some at a time; whole when the block has ended."""

    def write(self, records: Sequence[ExportRecord]) -> None: ...

    def __enter__(self) -> "Writer": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def writer_of(form: ExportFormat, directory: Path, schema: pa.Schema) -> Writer:
    """The writer of a format below a directory. ``schema``: of its records, for Parquet."""
    path = directory / form.data
    if form.file == "jsonl":
        path.parent.mkdir(parents=True)
        return _Lines(path)
    path.mkdir(parents=True)
    return _Parts(path, schema) if form.file == "parquet" else _Shards(path, schema.names)


def as_line(record: Mapping[str, Any]) -> str:
    """A record as one line, by any reader's idea of a line."""
    return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False).translate(_LINE_ENDS)


def _finite(value: Any) -> Any:
    """The value with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


class _Closing:
    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None: ...


class _Lines(_Closing):
    """One file, because loaders take several in the order of a directory listing, which is any."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, records: Sequence[ExportRecord]) -> None:
        self._file.writelines(as_line(record) + "\n" for record in records)

    def close(self) -> None:
        self._file.close()


class _Parts(_Closing):
    """Parquet files whose names sort as they follow each other."""

    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        self._directory, self._schema, self._count = directory, schema, 0
        self._writer: pq.ParquetWriter | None = None
        self._path = directory

    def write(self, records: Sequence[ExportRecord]) -> None:
        if self._writer is None:
            self._path = self._directory / f"train-{self._count:05}.parquet"
            self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd")
            self._count += 1
        self._writer.write_table(pa.Table.from_pylist(list(records), self._schema))
        if self._path.stat().st_size > PART_BYTES:
            self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


class _Shards(_Closing):
    """Shards of MosaicML streaming, format ``mds`` version 2: its documentation has the layout.

    Written here because its own writer comes with a package that asks for transformers 4 and numpy 2.1, which no
    environment has beside this trainer; it reads what is written here (docs/export.md).
    """

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self._directory, self._names = directory, sorted(names)
        self._encodings = ["str" if name == ID else "json" for name in self._names]
        self._samples: list[bytes] = []
        self._bytes, self._shards = 0, list[dict[str, Any]]()

    def write(self, records: Sequence[ExportRecord]) -> None:
        for record in records:
            values = [
                (str(record[name]) if name == ID else json.dumps(_finite(record[name]), allow_nan=False)).encode()
                for name in self._names
            ]
            sample = np.array([len(value) for value in values], "<u4").tobytes() + b"".join(values)
            if self._bytes + len(sample) > SHARD_BYTES and self._samples:
                self._end_shard()
            self._samples.append(sample)
            self._bytes += len(sample) + 4

    def _end_shard(self) -> None:
        about = {
            "column_encodings": self._encodings,
            "column_names": self._names,
            "column_sizes": [None] * len(self._names),
            "compression": None,
            "format": "mds",
            "hashes": [],
            "size_limit": SHARD_BYTES,
            "version": 2,
        }
        config, count = json.dumps(about, sort_keys=True).encode(), len(self._samples)
        head = 4 + 4 * (count + 1) + len(config)
        offsets = head + np.cumsum([0, *map(len, self._samples)])
        name = f"shard.{len(self._shards):05}.mds"
        with (self._directory / name).open("wb") as file:
            file.write(np.array([count, *offsets], "<u4").tobytes() + config)
            file.writelines(self._samples)
        raw = {"basename": name, "bytes": int(offsets[-1]), "hashes": {}}
        self._shards.append({**about, "raw_data": raw, "samples": count, "zip_data": None})
        self._samples, self._bytes = [], 0

    def close(self) -> None:
        if self._samples:
            self._end_shard()
        index = {"shards": self._shards, "version": 2}
        (self._directory / "index.json").write_text(json.dumps(index, sort_keys=True), "utf-8")
