"""Look a whole file over before anything of it is scored."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from curricle.curate.formats import FORMATS, RULES, Fields, Format, ReadingRules, fits, record_of
from curricle.curate.formats.conversation import fields_of
from curricle.curate.readers.base import IN, Extent, Inside, Reader, Slice
from curricle.curate.readers.kinds import kind_of
from curricle.curate.readers.nested.assembly import NESTINGS, nesting_of
from curricle.curate.readers.nested.files import Bounds, extents_inside, spanning
from curricle.curate.readers.reading import read
from curricle.curate.readers.records import Record
from curricle.curate.readers.split import Broken
from curricle.curate.readers.streams import Expansion, Opener, SurveyedFile, troubles
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.log import printable

log = logging.getLogger("curricle")

PEEK = 100
"""Objects in which a known format has to appear."""

SLICE_BYTES = 1 << 25
"""What a slice holds at once, but for its last record: 32 MiB, so that memory does not depend on the data."""

MAGIC = {
    **{b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz"},
    **{b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\xff\xff\xff\xff": ".arrow"},
}


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
    readers: Sequence[Reader] = (),
    share: Callable[[int], float] = lambda _: 0.0,
    rules: ReadingRules = RULES,
) -> Survey:
    """Count a file's records and slice them, in one pass and bounded memory; in two where they stand inside others.

    A slice ends with ``rows_per_slice`` records, or sooner, with ``SLICE_BYTES`` of them, or when their shares are 1:
    ``share`` tells how much of a slice a record of so many bytes is.
    Raises UsageError for what spoils the file as a whole: no such file, a kind that is not read, truncated
    or corrupt data, more than ``max_expansion`` times the stored bytes when unpacked, an array that cannot be
    cut, no object of a known format (or of ``format``) among the first ``PEEK``. A file that is whole and has
    no record is in order.
    """
    kind = kind_of(name, readers)
    peek = _Peek(name, format, rules, kind.reader.no_names)
    file = SurveyedFile(name, opener, kind.compression, Expansion(name, max_expansion), peek)
    bounds = Bounds()
    with troubles(name, UsageError):
        try:
            extents = _bounded(kind.reader.extents(file, max_record_bytes), peek, bounds)
            slices = _slices(extents, rows_per_slice, share)
        except Broken as error:
            raise UsageError(str(error), where=name, remedy=kind.reader.remedy) from error
        stored = file.stored
    if peek.nesting:
        read_again = chain.from_iterable(
            records for _, records in read(opener, name, slices, max_record_bytes, readers)
        )
        inside = extents_inside(peek.nesting, read_again, bounds, slices[0].layout, max_record_bytes)
        slices = _slices(_looked_at(inside, file, peek), rows_per_slice, share)
    records = sum(part.records for part in slices)
    if not stored.bytes and not (kind.reader.may_be_empty and kind.compression is None):
        raise UsageError("the file has 0 bytes", where=name, remedy="fetch or write the file again, or leave it out")
    if records:
        peek.settle()
    return Survey(stored.bytes, stored.sha256, records, slices)


def _bounded(extents: Iterator[Extent], peek: "_Peek", bounds: Bounds) -> Iterator[Extent]:
    """The extents, and their bounds as long as the records may hold others."""
    for extent in extents:
        bounds.add(extent)
        yield extent
        if peek.nesting == "":
            yield from extents


def _looked_at(inside: Iterable[tuple[Extent, Record]], file: SurveyedFile, peek: "_Peek") -> Iterator[Extent]:
    """The extents of records that stand inside others: what many of them share, as a context, counts for each."""
    log.info("%s: a record is %s", printable(file.name), NESTINGS[peek.nesting or ""].words)
    peek.inside, unpacked = True, 0
    for extent, record in inside:
        unpacked += extent.bytes
        file.expansion.check(unpacked, file.stored.bytes)
        if not peek.done:
            peek.see(record)
        yield extent


def _slices(extents: Iterable[Extent], rows_per_slice: int, share: Callable[[int], float]) -> list[Slice]:
    """Consecutive records together, until they are enough or large enough."""
    slices: list[Slice] = []
    records = count = held = begin = stop = first = 0
    layout, filled = "", 0.0
    inside: Inside | None = None
    last: Inside | None = None

    def cut() -> None:
        if count:
            lies = records - count, count, begin, stop, first
            around = spanning(inside, last)
            slices.append(Slice(f"{around[0]}{IN}{layout}", *lies, *around[1:]) if around else Slice(layout, *lies))

    for extent in extents:
        if not count or count == rows_per_slice or held >= SLICE_BYTES or filled >= 1:
            cut()
            count, held, filled, begin, first, layout = 0, 0, 0.0, extent.start, extent.position, extent.layout
            inside = extent.inside
        stop, last = extent.stop, extent.inside
        held += extent.bytes
        filled += share(extent.bytes)
        count += 1
        records += 1
    cut()
    return slices


REMEDY = "write one JSON object a line, or in a file that ends in .json an array of objects"


class _Peek:
    """Looks for a known format among a file's first objects."""

    def __init__(self, name: str, format: Format | None, rules: ReadingRules, no_names: str) -> None:
        self.name, self.format, self.rules, self.no_names = name, format, rules, no_names
        self.nesting: str | None = None  # how records hold others; not known before the first object
        self.inside = False
        self.objects, self.settled = 0, False
        self.first_object: Fields | None = None
        self.first_reject: Record | None = None

    @property
    def done(self) -> bool:
        return self.settled or self.objects == PEEK or (bool(self.nesting) and not self.inside)

    def see(self, record: Record) -> None:
        if (fields := record_of(record.value)) is not None:
            if self.nesting is None and (nesting := nesting_of(fields, self.format, self.rules)):
                self.nesting = nesting
                return
            self.nesting = self.nesting or ""
            self.objects += 1
            self.first_object = self.first_object or fields
            self.settled = self._fits(fields)
        else:
            self.first_reject = self.first_reject or record

    def _fits(self, record: Fields) -> bool:
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
        found = f"{missing}{hint}; {fields_of(self.first_object)}"
        raise UsageError(found, where=self.name, remedy=remedy + self.no_names)

    def _hint(self) -> str:
        """What a file of lines is more likely to be, by its first bytes."""
        source = self.first_reject.source if self.first_reject else b""
        for magic, suffix in MAGIC.items():
            if source.startswith(magic):
                return f", and the file looks like {suffix}"
        if source.strip() in (b"{", b"["):
            return ", and it looks as if records spread over several lines"
        return ""
