"""Parquet files as one sequence of rows: checked when opened, read by column or by row group."""

import binascii
import os
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.wording import listed
from curricle.schemas.files import Folder
from curricle.schemas.identity import changes, table_identity
from curricle.schemas.manifest import MANIFEST, read_manifest
from curricle.schemas.parquet import open_parquet
from curricle.schemas.sums import cached_digests
from curricle.schemas.table import read_file_metadata, score_columns
from numpy.typing import NDArray

ID_BYTES = 16
TEXT_CACHE_BYTES = 1 << 30
BATCH_ROWS = 1 << 17


def locate(location: str | Path) -> tuple[list[Path], str | None]:
    """The Parquet files that a location names, and the fingerprint that they should have, if anything says so.

    A location is a table directory, a directory of Parquet files, or one file. A directory that scoring wrote must have
    the manifest that says it is whole, and every part with the size and the SHA-256 that the manifest states.
    UserError otherwise.
    """
    root = Path(location)
    if not root.exists():
        raise UsageError("there is no such file or directory", where=str(root), remedy="check the path of the table")
    if root.is_file():
        return [root], None
    loose = sorted(root.glob("*.parquet"))
    if loose and not (root / MANIFEST).is_file() and not (root / "_progress").exists():
        return loose, None
    files, paths = Folder(root), list[Path]()
    manifest = read_manifest(files)
    for part in manifest.data:
        if (size := files.size(part.path)) != part.bytes:
            actual_size = "is absent" if size is None else f"has {size:,}"
            raise UsageError(
                f"the manifest promises {part.bytes:,} bytes, the file {actual_size}",
                where=files.uri(part.path),
                remedy="copy the table again, or score again",
            )
        with files.local(part.path) as path:
            paths.append(path)
    _check_bytes(root, {part.path: part.sha256 for part in manifest.data})
    return paths, manifest.fingerprint


def _check_bytes(root: Path, expected: Mapping[str, str]) -> None:
    """UsageError if a part does not hold the bytes that its manifest states: a flipped bit in a score is a score.

    Every byte is read once by a process, several parts at a time, and by the first of several processes alone.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    for name, digest in cached_digests(root, expected).items():
        if digest != expected[name]:
            raise UsageError(
                "the bytes are not those that the manifest promises (SHA-256)",
                where=str(root / name),
                remedy="copy the table again, or score again",
            )


class ParquetTable:
    """Parquet files with the same columns. ``fingerprint`` is None where they are not signed."""

    def __init__(self, locations: str | Path | Sequence[str | Path]) -> None:
        locations = [locations] if isinstance(locations, str | Path) else locations
        self.paths: list[Path] = []
        self.where = str(locations[0])
        signed: dict[str | None, Path] = {}
        for location in locations:
            paths, fingerprint = locate(location)
            self.paths += paths
            signed |= {fingerprint: Path(location)} if fingerprint else {}
        schemas: list[pa.Schema] = []
        self._groups: list[tuple[Path, int]] = []
        sizes: list[int] = []
        for path in self.paths:
            try:
                footer = pq.read_metadata(path)
                schemas.append(footer.schema.to_arrow_schema())
                self.schema = pa.unify_schemas(schemas, promote_options="permissive")
            except pa.ArrowInvalid as error:
                if _begins_as_parquet(path):
                    raise UsageError(str(error), where=str(path), remedy="name Parquet files of one table") from error
                remedy = f"score it first: curricle score {path} --output scored"
                raise UsageError("is no Parquet file, and so no table", where=str(path), remedy=remedy) from error
            except (OSError, pa.ArrowException) as error:
                raise UsageError(str(error), where=str(path), remedy="name Parquet files of one table") from error
            signed[_fingerprint(schemas[-1], path)] = path
            self._groups += [(path, index) for index in range(footer.num_row_groups)]
            sizes += [footer.row_group(index).num_rows for index in range(footer.num_row_groups)]
        if len(signed) != 1:
            names = " and ".join(path.name for path in list(signed.values())[:2]) or "no files"
            raise UsageError(
                f"{names}: not one table with one fingerprint" + _differing(schemas),
                where=self.where,
                remedy="name the files of one table, or copy it again",
            )
        self.fingerprint = next(iter(signed))
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._text: OrderedDict[int, pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def batches(self, name: str) -> Iterator[pa.Array]:
        """One column in order, some rows at a time; UsageError if a file does not have it."""
        for path in self.paths:
            with open_parquet(path) as file:
                if name not in file.schema_arrow.names:
                    raise missing_column(name, file.schema_arrow.names, str(path))
                for batch in file.iter_batches(columns=[name], batch_size=BATCH_ROWS):
                    yield batch.column(0)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column, in memory."""
        kind = self.schema.field(name).type
        return pa.chunked_array([array.cast(kind) for array in self.batches(name)], kind)

    def ids(self) -> NDArray[np.uint8]:
        """The example ids, uint8 (rows, 16)."""
        return np.concatenate([np.empty((0, ID_BYTES), np.uint8), *map(id_bytes, self.batches("example_id"))])

    def text(self, rows: NDArray[np.int64]) -> list[dict[str, object]]:
        """``messages`` and ``extra`` of these rows, in this order.

        Each row group that they touch is read once; the groups read last stay in memory, up to about 1 GiB.
        """
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        by_index: dict[int, dict[str, object]] = {}
        for group in np.unique(groups):
            indices = np.flatnonzero(groups == group)
            records = self._group(int(group)).take(pa.array(rows[indices] - self._starts[group])).to_pylist()
            by_index.update(zip(indices.tolist(), records, strict=True))
        return [by_index[index] for index in range(len(rows))]

    def _group(self, group: int) -> pa.Table:
        if group not in self._text:
            path, index = self._groups[group]
            names = [name for name in ("messages", "extra") if name in self.schema.names]
            with open_parquet(path) as file:
                self._text[group] = file.read_row_group(index, columns=names)
            while len(self._text) > 1 and sum(text.nbytes for text in self._text.values()) > TEXT_CACHE_BYTES:
                self._text.popitem(last=False)
        self._text.move_to_end(group)
        return self._text[group]


def id_bytes(ids: pa.Array) -> NDArray[np.uint8]:
    """Example ids as uint8 (rows, 16): the bytes that 32 hex digits spell, or a hash of any other id."""
    if ids.null_count:
        raise UsageError(f"{ids.null_count} rows have no example_id", remedy="give every row an id")
    texts = ids.cast(pa.large_string())
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if len(texts) and (np.diff(offsets) == 2 * ID_BYTES).all():
        try:
            digits = memoryview(texts.buffers()[2])[offsets[0] : offsets[-1]]
            return np.frombuffer(binascii.unhexlify(digits), np.uint8).reshape(-1, ID_BYTES)
        except binascii.Error:
            pass  # 32 characters, but not all of them hex: each id is looked at alone
    return np.frombuffer(b"".join(map(_id_bytes, texts.to_pylist())), np.uint8).reshape(-1, ID_BYTES)


def whole_ids(ids: NDArray[np.uint8]) -> NDArray[np.void]:
    """Ids, uint8 (rows, 16), as one value each, void (rows,): what numpy sorts, searches and compares."""
    return np.ascontiguousarray(ids).view(f"V{ID_BYTES}")[:, 0]


def _id_bytes(text: str) -> bytes:
    try:
        if len(text) == 2 * ID_BYTES:
            return binascii.unhexlify(text)
    except ValueError:
        pass
    return blake2b(text.encode(), digest_size=ID_BYTES).digest()


def _begins_as_parquet(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def missing_column(name: str, names: Iterable[str], where: str) -> UsageError:
    """The error for a column that is not there, with the nearest name that is."""
    return UsageError(f"there is no column {name!r}", where=where, remedy=nearest(name, names))


def missing_score(name: str, scores: Collection[str], where: str) -> UsageError:
    """The error for a column to order by that is not there, with the ``scores`` that are."""
    close = nearest(name, scores)
    remedy = (
        f"{close + ' If not, ' if close.startswith('did you mean') else ''}"
        f"add it with `curricle add`, or order by a score that is there: {', '.join(scores)}; which option of a "
        "curriculum names it, says `curricle-train run --curriculum NAME --help`"
    )
    return UsageError(f"there is no column {name!r}", where=where, remedy=remedy)


def _differing(schemas: Sequence[pa.Schema]) -> str:
    """In which columns the first files that differ do, and how."""
    try:
        identities = [table_identity(score_columns(schema).values()) for schema in schemas]
    except UserError:
        return ""  # another program's metadata under our key
    lines = next((differences for one in identities[1:] if (differences := changes(identities[0], one))), [])
    return listed(lines)


def _fingerprint(schema: pa.Schema, path: Path) -> str | None:
    try:
        fingerprint = read_file_metadata(schema).get("fingerprint")
    except UserError as error:
        raise UsageError(error.found, where=str(path), remedy=error.remedy) from error
    return None if fingerprint is None else str(fingerprint)
