"""What a file is, by its name."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath
from typing import NamedTuple

from curricle.curate.readers.base import Reader
from curricle.curate.readers.delimited import CSV, TSV
from curricle.curate.readers.ipc import Ipc
from curricle.curate.readers.parquet import Parquet
from curricle.curate.readers.streams import COMPRESSIONS, Compression
from curricle.curate.readers.text import Json, JsonLines
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.plugins import Group, stamped

READERS: tuple[Reader, ...] = (JsonLines(), Json(), CSV, TSV, Parquet(), Ipc())
READ = ".jsonl, .ndjson, .json, .csv and .tsv, plain or with .gz, .zst, .bz2 or .xz, and .parquet, .arrow and .feather"

PLUGINS: Group[Reader] = Group(
    "curricle.readers", "reader", "a Reader of curricle.curate.readers", lambda value: isinstance(value, Reader)
)
"""Readers of others. The entry point has the name of the suffix, without the dot, and is loaded where a file has it."""


class FileKind(NamedTuple):
    reader: Reader
    compression: Compression | None


def kind_of(name: str, readers: Sequence[Reader] = ()) -> FileKind:
    """The kind of the file with this name or address: ours, one that these ``readers`` read, or that a plug-in does.

    Raises UsageError if files like it are not read.
    """
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes[-2:]]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    reader = _reader(suffixes[-1], readers) if suffixes else None
    if reader is None:
        suffix = PurePosixPath(name).suffix
        found = f"files that end in {suffix} are not read" if suffix else "the name does not say what the file is"
        remedy = f"rename it, convert it, or name a reader of such files (--readers); what is read ends in {READ}"
        raise UsageError(found, where=name, remedy=remedy)
    if compression and not reader.compressible:
        raise UsageError(
            f"a compressed {reader.name} file cannot be read in parts",
            where=name,
            remedy=f"decompress it; {reader.name} compresses inside",
        )
    return FileKind(reader, compression)


def named_readers(names: Sequence[str | Reader], columns: Sequence[str] = ()) -> tuple[Reader, ...]:
    """The readers that a user names, as ``./my.py:READER``. UsageError as a plug-in's, and for a suffix of ours.

    ``columns`` names those of CSV and TSV whose first line is a record like any other.
    """
    readers = tuple(name if isinstance(name, Reader) else _loaded(name) for name in names)
    by_suffix = {suffix: reader for reader in READERS for suffix in reader.suffixes}
    for reader in readers:
        for suffix in reader.suffixes:
            if suffix in by_suffix or suffix in COMPRESSIONS:
                raise UsageError(
                    f"files that end in {suffix} have a reader",
                    where=f"reader {reader.name}",
                    remedy="give the reader other suffixes, or leave it out",
                )
            by_suffix[suffix] = reader
    return (*_with_columns(tuple(columns)), *readers)


def _with_columns(columns: tuple[str, ...]) -> tuple[Reader, ...]:
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None or not all(columns):
        found = f"--columns names {twice!r} twice" if twice else "--columns has an empty name"
        raise UsageError(found, remedy="name each column once")
    return (replace(CSV, columns=columns), replace(TSV, columns=columns)) if columns else ()


def _reader(suffix: str, readers: Sequence[Reader]) -> Reader | None:
    named = (reader for reader in (*readers, *READERS) if suffix in reader.suffixes)
    return next(named, None) or _installed(suffix)


@cache
def _installed(suffix: str) -> Reader | None:
    name = suffix.removeprefix(".")
    if suffix in COMPRESSIONS or name not in PLUGINS.names():
        return None
    reader = _loaded(name)
    if suffix not in reader.suffixes:
        found = f"it reads {', '.join(reader.suffixes)}, and not {suffix}"
        raise UsageError(found, where=f"reader {name!r}", remedy="give its entry point the name of its suffix")
    return reader


def _loaded(name: str) -> Reader:
    plugin = PLUGINS.load(name)
    return stamped(plugin.object, PLUGINS.origin(plugin))
