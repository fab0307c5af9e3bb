"""What a file is, by its name."""

from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from curricle.schemas.common.errors import UsageError

Layout = Literal["lines", "json", "parquet"]
Compression = Literal["gzip", "zstd"]

LAYOUTS: dict[str, Layout] = {".jsonl": "lines", ".ndjson": "lines", ".json": "json", ".parquet": "parquet"}
COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
READ = ".jsonl, .ndjson and .json, plain or with .gz or .zst, and .parquet"


class FileKind(NamedTuple):
    """``json`` is an array or lines, which its first byte that is not white space decides."""

    layout: Layout
    compression: Compression | None


def kind_of(name: str) -> FileKind:
    """The kind of the file with this name or address. Raises UsageError if files like it are not read."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes[-2:]]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    layout = LAYOUTS.get(suffixes[-1]) if suffixes else None
    if layout is None:
        suffix = PurePosixPath(name).suffix
        found = f"files that end in {suffix} are not read" if suffix else "the name does not say what the file is"
        raise UsageError(found, where=name, remedy=f"rename or convert it; what is read ends in {READ}")
    if layout == "parquet" and compression:
        raise UsageError(
            "a compressed Parquet file cannot be read in parts",
            where=name,
            remedy="decompress it; Parquet compresses inside",
        )
    return FileKind(layout, compression)
