"""Read the records of slices that a survey cut."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from curricle.curate.readers.base import Reader, Slice
from curricle.curate.readers.kinds import kind_of
from curricle.curate.readers.nested.files import records_inside
from curricle.curate.readers.records import Record
from curricle.curate.readers.split import Broken
from curricle.curate.readers.streams import Opener, StoredFile, troubles
from curricle.schemas.common.errors import UserError


def read(
    opener: Opener, name: str, slices: Iterable[Slice], max_record_bytes: int, readers: Sequence[Reader] = ()
) -> Iterator[tuple[Slice, Iterator[Record]]]:
    """Each slice with its records. Slices are of one file and in order; the stream is opened once.

    A slice's records are gone once the next slice is asked for. A record that cannot be read has a reason.
    Raises UserError if the file cannot be read any more or is not what was surveyed.
    """
    slices = list(slices)
    if not slices:
        return
    kind = kind_of(name, readers)
    read_slices = partial(records_inside, kind.reader) if slices[0].nesting else kind.reader.records
    with troubles(name, UserError):
        for part, records in read_slices(StoredFile(name, opener, kind.compression), slices, max_record_bytes):
            yield part, _as_surveyed(records, part, name)


def _as_surveyed(records: Iterator[Record], part: Slice, name: str) -> Iterator[Record]:
    count = 0
    remedy = "score it into a new directory"
    try:
        with troubles(name, UserError):
            for record in records:
                count += 1
                yield record
    except Broken as error:
        raise UserError(f"the file has changed since the job began: {error}", where=name, remedy=remedy) from error
    if count != part.records:
        found = f"the file has changed since the job began: {count} records where {part.records} were, "
        raise UserError(f"{found}from position {part.position} on", where=name, remedy=remedy)
