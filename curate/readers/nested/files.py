"""Slices of records that stand inside those of a file: surveyed once, and read from anywhere."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from curricle.curate.formats import Format, ReadingRules, record_of
from curricle.curate.readers.base import Extent, Inside, Reader, Slice, SlicesRead
from curricle.curate.readers.nested.assembly import NESTINGS, as_part, nesting_of, size_of
from curricle.curate.readers.records import Record
from curricle.curate.readers.streams import StoredFile

LOOKED_AT = 100
"""Records of a program among which there has to be an object, to tell whether it holds others."""


@dataclass(frozen=True)
class Bounds:
    """Where the records of a file begin and end, in the terms of ``Slice``."""

    starts: "array[int]" = field(default_factory=lambda: array("q"))
    stops: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, extent: Extent) -> None:
        self.starts.append(extent.start)
        self.stops.append(extent.stop)


def extents_inside(
    name: str, records: Iterable[Record], bounds: Bounds, layout: str, limit: int
) -> Iterator[tuple[Extent, Record]]:
    """Every record that stands inside these of a file, which are all of it, and where; ``name`` is in ``NESTINGS``."""
    nesting, first, position = NESTINGS[name], 0, 0
    for group in nesting.groups(records, limit):
        start, stop = bounds.starts[first], bounds.stops[first + len(group) - 1]
        for skip, part in enumerate(nesting.parts(group)):
            inside = Inside(name, first, len(group), group[0].position, skip)
            size = size_of(part.value) + len(part.source)
            yield Extent(position, start, stop, size, layout, inside), as_part(part, position)
            position += 1
        first += len(group)


def records_inside(reader: Reader, file: StoredFile, slices: Sequence[Slice], limit: int) -> SlicesRead:
    """As ``Reader.records``. A slice may end inside a record of the file: the file is opened again for the next one."""
    for run in _apart(slices):
        around = reader.records(file, [part.around for part in run], limit)
        for part, (_, records) in zip(run, around, strict=True):
            yield part, _inside(part, records, limit)


def assembled(records: Iterator[Record], format: Format | None, rules: ReadingRules, limit: int) -> Iterator[Record]:
    """The records of a program, or those that stand inside them, as a file of them is read."""
    first, name = list[Record](), ""
    for record in islice(records, LOOKED_AT):
        first.append(record)
        if (fields := record_of(record.value)) is not None:
            name = nesting_of(fields, format, rules)
            break
    records = chain(first, records)
    if not name:
        return records
    return NESTINGS[name].all_parts(records, limit)


def spanning(first: Inside | None, last: Inside | None) -> Inside | None:
    """Where records lie of which the first and the last do so here."""
    if first is None or last is None:
        return None
    return first._replace(records=last.first_record + last.records - first.first_record)


def _inside(part: Slice, records: Iterable[Record], limit: int) -> Iterator[Record]:
    parts = NESTINGS[part.nesting].all_parts(records, limit, part.position - part.skip)
    return islice(parts, part.skip, part.skip + part.records)


def _apart(slices: Sequence[Slice]) -> Iterator[list[Slice]]:
    """The slices in runs of which none begins before another one ends."""
    run: list[Slice] = []
    for part in slices:
        if run and part.start < run[-1].stop:
            yield run
            run = []
        run.append(part)
    if run:
        yield run
