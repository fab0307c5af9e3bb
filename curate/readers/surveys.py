"""Look a whole file over before anything of it is scored."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal, NamedTuple

from curricle.curate.formats import FORMATS, Format, fits
from curricle.curate.formats.conversation import fields_of
from curricle.curate.readers.kinds import FileKind, kind_of
from curricle.curate.readers.parquet import ParquetRows, open_parquet
from curricle.curate.readers.records import Record, parse, too_long
from curricle.curate.readers.split import BOM, JSON_SPACE, Broken, Piece, elements, lines
from curricle.curate.readers.streams import (
    CHUNK_BYTES,
    Expansion,
    Hashed,
    Opener,
    chunks,
    decompressed,
    seekable,
    troubles,
)
from curricle.schemas.common.errors import UsageError

PEEK = 100
"""Objects in which a known format has to appear."""

SLICE_BYTES = 1 << 25
"""What a slice holds at once, but for its last record: 32 MiB, so that memory does not depend on the data."""

Layout = Literal["lines", "elements", "rows"]

MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"PAR1": ".parquet"}


class Slice(NamedTuple):
    """Consecutive records of one file.

    ``start`` and ``stop`` are offsets in the decompressed bytes for lines and for elements of an array, and
    row numbers for rows. ``position`` is that of the first record; it is more than ``first_record``, its
    ordinal in the file, where blank lines come before it.
    """

    layout: Layout
    first_record: int
    records: int
    start: int
    stop: int
    position: int


class _Extent(NamedTuple):
    """Where a record is, in the terms of ``Slice``, and how many bytes it has."""

    position: int
    start: int
    stop: int
    bytes: int


class Survey(NamedTuple):
    """A file's size and SHA-256 as stored, how many records it has, and how they are sliced."""

    bytes: int
    sha256: str
    records: int
    slices: list[Slice]


def survey(
    opener: Opener,
    name: str,
    rows_per_slice: int,
    max_record_bytes: int,
    max_expansion: int,
    format: Format | None = None,
) -> Survey:
    """Count a file's records and slice them, in one pass and bounded memory.

    A slice ends with ``rows_per_slice`` records, or sooner, with ``SLICE_BYTES`` of them.
    Raises UsageError for what spoils the file as a whole: no such file, a kind that is not read, truncated
    or corrupt data, more than ``max_expansion`` times the stored bytes when unpacked, an array that cannot be
    cut, no object of a known format (or of ``format``) among the first ``PEEK``. A file that is whole and has
    no record is in order.
    """
    kind = kind_of(name)
    peek = _Peek(name, format)
    expansion = Expansion(name, max_expansion)
    with troubles(name, UsageError):
        with opener() as raw:
            hashed = Hashed(raw)
            if kind.layout != "parquet":
                content = expansion.checked(chunks(decompressed(hashed, kind.compression)), hashed)
                slices = _text(content, name, kind, rows_per_slice, max_record_bytes, peek)
            hashed.drain()
        if kind.layout == "parquet":
            with opener() as raw, seekable(raw) as file:
                parquet = open_parquet(file, name)
                expansion.check(parquet.promised_bytes, hashed.size)
                slices = _rows(parquet, rows_per_slice, max_record_bytes, peek, expansion, hashed.size)
    records = sum(part.records for part in slices)
    if not hashed.size and kind != FileKind("lines", None):
        raise UsageError("the file has 0 bytes", where=name, remedy="fetch or write the file again, or leave it out")
    if records:
        peek.settle()
    return Survey(hashed.size, hashed.sha256.hexdigest(), records, slices)


def record_of(piece: Piece, position: int, limit: int) -> Record:
    """The record in a piece of text."""
    whole = piece.length == len(piece.data)
    return parse(piece.data, position) if whole else too_long(position, piece.length, limit, piece.data)


def _text(
    content: Iterator[bytes], name: str, kind: FileKind, rows_per_slice: int, limit: int, peek: "_Peek"
) -> list[Slice]:
    layout, start, content = _opening(content, kind)
    pieces = (elements if layout == "elements" else lines)(content, start, limit)

    def extents() -> Iterator[_Extent]:
        for position, piece in enumerate(pieces):
            if piece.blank:
                continue
            if not peek.done:
                peek.see(record_of(piece, position, limit))
            yield _Extent(position, piece.start, piece.start + piece.length, piece.length)

    try:
        return _slices(layout, extents(), rows_per_slice)
    except Broken as error:
        raise UsageError(str(error), where=name, remedy="mend the file, or write one record a line") from error


def _slices(layout: Layout, extents: Iterable[_Extent], rows_per_slice: int) -> list[Slice]:
    """Consecutive records together, until they are enough or large enough."""
    slices: list[Slice] = []
    records = count = held = begin = stop = first = 0

    def cut() -> None:
        if count:
            slices.append(Slice(layout, records - count, count, begin, stop, first))

    for extent in extents:
        if not count or count == rows_per_slice or held >= SLICE_BYTES:
            cut()
            count, held, begin, first = 0, 0, extent.start, extent.position
        stop = extent.stop
        held += extent.bytes
        count += 1
        records += 1
    cut()
    return slices


def _opening(content: Iterator[bytes], kind: FileKind) -> tuple[Literal["lines", "elements"], int, Iterator[bytes]]:
    """How the text is laid out, where its records begin, and the bytes from there on."""
    head = b""
    for chunk in content:
        head += chunk
        if len(head) > CHUNK_BYTES or (len(head) >= len(BOM) and head.removeprefix(BOM).strip(JSON_SPACE)):
            break
    start = len(BOM) if head.startswith(BOM) else 0
    text = head[start:].lstrip(JSON_SPACE)
    if kind.layout == "json" and text.startswith(b"["):
        start = len(head) - len(text) + 1
        return "elements", start, chain([head[start:]], content)
    return "lines", start, chain([head[start:]], content)


def _rows(
    parquet: ParquetRows, rows_per_slice: int, limit: int, peek: "_Peek", expansion: Expansion, stored: int
) -> list[Slice]:
    for record in parquet.records([(0, sys.maxsize)], limit):
        if peek.done:
            break
        peek.see(record)

    def extents() -> Iterator[_Extent]:
        unpacked = 0
        for row, size in enumerate(parquet.sizes()):
            unpacked += size
            expansion.check(unpacked, stored)
            yield _Extent(row, row, row + 1, size)

    return _slices("rows", extents(), rows_per_slice)


REMEDY = "write one JSON object a line, or in a file that ends in .json an array of objects"


class _Peek:
    """Looks for a known format among a file's first objects."""

    def __init__(self, name: str, format: Format | None) -> None:
        self.name, self.format = name, format
        self.objects, self.settled = 0, False
        self.first_object: dict[str, object] | None = None
        self.first_reject: Record | None = None

    @property
    def done(self) -> bool:
        return self.settled or self.objects == PEEK

    def see(self, record: Record) -> None:
        if isinstance(record.value, dict):
            self.objects += 1
            self.first_object = self.first_object or record.value
            self.settled = self._fits(record.value)
        else:
            self.first_reject = self.first_reject or record

    def _fits(self, record: dict[str, object]) -> bool:
        try:
            return fits(record, self.format)
        except Exception:
            if self.format is None or self.format.origin is None:
                raise
            with self.format.origin.blamed(f"{self.name}, object {self.objects}"):
                raise

    def settle(self) -> None:
        if self.settled:
            return
        hint = self._hint()
        if self.first_object is None:
            assert self.first_reject is not None
            reason = self.first_reject.reason or "its first record is no object"
            raise UsageError(f"no record can be read{hint}; the first: {reason}", where=self.name, remedy=REMEDY)
        fields = "--prompt-field and --response-field"
        if self.format:
            remedy = (
                f"records of the format {self.format.name} have: {self.format.fields}; or name others with {fields}"
            )
        else:
            remedy = f"name the two fields with {fields}, or one of the formats {', '.join(FORMATS)} with --format"
        missing = f"no record of the format {self.format.name}" if self.format else "no known format"
        raise UsageError(f"{missing}{hint}; {fields_of(self.first_object)}", where=self.name, remedy=remedy)

    def _hint(self) -> str:
        """What a file of lines is more likely to be, by its first bytes."""
        source = self.first_reject.source if self.first_reject else b""
        for magic, suffix in MAGIC.items():
            if source.startswith(magic):
                return f", and the file looks like {suffix}"
        if source.strip() in (b"{", b"["):
            return ", and it looks as if records spread over several lines"
        return ""
