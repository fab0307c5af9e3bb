"""Read the records of slices that a survey cut."""

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from curricle.curate.readers.kinds import kind_of
from curricle.curate.readers.parquet import open_parquet
from curricle.curate.readers.records import Record
from curricle.curate.readers.split import Broken, elements, lines
from curricle.curate.readers.streams import Forward, Opener, chunks, decompressed, seekable, troubles
from curricle.curate.readers.surveys import Slice, record_of
from curricle.schemas.common.errors import UserError


def read(
    opener: Opener, name: str, slices: Iterable[Slice], max_record_bytes: int
) -> Iterator[tuple[Slice, Iterator[Record]]]:
    """Each slice with its records. Slices are of one file and in order; the stream is opened once.

    A slice's records are gone once the next slice is asked for. A record that cannot be read has a reason.
    Raises UserError if the file cannot be read any more or is not what was surveyed.
    """
    slices = list(slices)
    if not slices:
        return
    cut = _rows if slices[0].layout == "rows" else _text
    with troubles(name, UserError), opener() as raw:
        for part, records in cut(raw, name, slices, max_record_bytes):
            yield part, _as_surveyed(records, part, name)


def _text(raw: BinaryIO, name: str, slices: Sequence[Slice], limit: int) -> Iterator[tuple[Slice, Iterator[Record]]]:
    stream = Forward(decompressed(raw, kind_of(name).compression))
    for part in slices:
        stream.skip_to(part.start)
        content = chunks(stream, part.stop - part.start)
        pieces = (
            elements(content, part.start, limit, whole=False)
            if part.layout == "elements"
            else lines(content, part.start, limit)
        )
        numbered = enumerate(pieces, part.position)
        yield part, (record_of(piece, position, limit) for position, piece in numbered if not piece.blank)


def _rows(raw: BinaryIO, name: str, slices: Sequence[Slice], limit: int) -> Iterator[tuple[Slice, Iterator[Record]]]:
    with seekable(raw) as stream:
        everything = open_parquet(stream, name).records([(part.start, part.stop) for part in slices], limit)
        for part in slices:
            yield part, _until(everything, part)


def _until(records: Iterator[Record], part: Slice) -> Iterator[Record]:
    """The slice's rows; rows that were left of the slice before are passed over."""
    for record in records:
        if record.position >= part.start:
            yield record
        if record.position == part.stop - 1:
            return


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
