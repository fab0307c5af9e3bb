"""What a reader is: how files of one layout are looked over, cut into slices, and read.

``TextReader`` is for records that follow one another in a stream of bytes; what else there is, is a ``Reader``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

from curricle.curate.readers.records import Record, too_long
from curricle.curate.readers.split import BOM, JSON_SPACE, Piece
from curricle.curate.readers.streams import CHUNK_BYTES, StoredFile, SurveyedFile, chunks
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.plugins import Origin, Pluggable


class Inside(NamedTuple):
    """Where records lie that stand inside those of the file (``readers.nested``): in ``records`` of them, from the
    ``first_record`` on, which has this ``position``; ``skip`` others come before in them.
    """

    nesting: str
    first_record: int
    records: int
    position: int
    skip: int


class Slice(NamedTuple):
    """Consecutive records of one file.

    ``start`` and ``stop`` are offsets in the decompressed bytes for records of a text, and row numbers for
    rows. ``position`` is that of the first record; it is more than ``first_record``, its ordinal in the
    file, where blank lines or a header come before it.

    Records that stand inside those of the file lie between ``around_first`` and so on, see ``Inside``; the layout
    has the name of the nesting before it.
    """

    layout: str
    first_record: int
    records: int
    start: int
    stop: int
    position: int
    around_first: int = 0
    around_records: int = 0
    around_position: int = 0
    skip: int = 0

    @property
    def nesting(self) -> str:
        """How they stand inside the records of the file; empty if they are these."""
        return self.layout.partition(IN)[0] if self.around_records else ""

    @property
    def around(self) -> "Slice":
        """The records of the file that these stand inside."""
        layout = self.layout.partition(IN)[2]
        return Slice(layout, self.around_first, self.around_records, self.start, self.stop, self.around_position)


IN = " | "


SlicesRead: TypeAlias = Iterator[tuple[Slice, Iterator[Record]]]
"""Each slice with its records"""


class Extent(NamedTuple):
    """Where a record is, in the terms of ``Slice``, and how many bytes it takes in memory."""

    position: int
    start: int
    stop: int
    bytes: int
    layout: str
    inside: Inside | None = None


class Reader(Pluggable, ABC):
    """Files whose names end in one of ``suffixes``, from bytes to records.

    A file is surveyed whole, and read later in slices, each perhaps in another process. Every record that the survey
    counted has to be read, at the same position: as a value, or with the reason why it is none.
    """

    name: str
    """For people, and for the plan of a job"""
    suffixes: Sequence[str]
    """In lower case, with their dots"""
    compressible = True
    """Whether the file may be compressed as a whole, as ``.gz``, ``.zst``, ``.bz2`` or ``.xz``"""
    divisible = True
    """Whether reading can start at any slice at no cost, if the file is not compressed"""
    may_be_empty = False
    """Whether a file of 0 bytes is one without records"""
    remedy = "mend the file"
    """What to do about a file that cannot be cut"""
    no_names = ""
    """What else may be wrong where no record is of a known format, and what to do"""
    origin: Origin | None = None

    @abstractmethod
    def extents(self, file: SurveyedFile, limit: int) -> Iterator[Extent]:
        """Every record of the file, in order. As long as the file ``wants`` records, ``file.look_at`` is given each.

        At most ``limit`` bytes of a record are held. Raises Broken where the rest cannot be cut, UsageError for what
        spoils the file as a whole.
        """

    @abstractmethod
    def records(self, file: StoredFile, slices: Sequence[Slice], limit: int) -> SlicesRead:
        """Each of these slices, which are in order, with its records. The file is opened once for all of them.

        A slice's records need not be read to their end before the next slice is asked for.
        """


class TextReader(Reader):
    """Records that follow one another in a stream of bytes: a subclass says where one ends, and what is in it.

    ``header``: the first record names the fields of the others, and is none itself.
    """

    header = False
    layout = "text"

    @abstractmethod
    def cut(self, data: Iterable[bytes], start: int, limit: int) -> Iterator[Piece]:
        """Each record's bytes, blank ones too, of content that begins with a record at offset ``start`` of the file.

        It may come in chunks of any size. A piece that is longer than ``limit`` holds its first bytes alone.
        """

    @abstractmethod
    def parse(self, data: bytes, position: int, header: bytes) -> Record:
        """The record in these bytes; what is wrong with them is its ``reason``, and raises nothing."""

    def check_header(self, header: bytes, name: str) -> None:
        """Raises UsageError if the header of the file ``name`` names no fields."""

    def begin(self, head: bytes) -> tuple[str, int]:
        """The layout of a file that begins with these bytes, and where its first record does: after a byte order mark.

        The head ends where it is ``enough``, or later.
        """
        return self.layout, len(BOM) if head.startswith(BOM) else 0

    def enough(self, head: bytes) -> bool:
        """Whether these bytes, without a byte order mark, tell how the file is laid out; what is longer has to."""
        return bool(head.strip(JSON_SPACE))

    def pieces(self, layout: str, data: Iterable[bytes], start: int, limit: int, whole: bool) -> Iterator[Piece]:
        """``cut`` for the layout that ``begin`` told. With ``whole`` the data goes on to the end of the file."""
        return self.cut(data, start, limit)

    def extents(self, file: SurveyedFile, limit: int) -> Iterator[Extent]:
        with file.content() as content:
            layout, start, rest = self._begun(content)
            header = b"" if self.header else None
            for position, piece in enumerate(self.pieces(layout, rest, start, limit, whole=True)):
                if piece.blank:
                    continue
                if header == b"":
                    header = _whole(piece, file.name, limit)
                    self.check_header(header, file.name)
                    continue
                if file.wants:
                    file.look_at(self._record(piece, position, limit, header or b""))
                yield Extent(position, piece.start, piece.start + piece.length, piece.length, layout)

    def records(self, file: StoredFile, slices: Sequence[Slice], limit: int) -> SlicesRead:
        header = self._header(file, limit) if self.header else b""
        with file.stream() as stream:
            for part in slices:
                stream.skip_to(part.start)
                content = chunks(stream, part.stop - part.start)
                pieces = self.pieces(part.layout, content, part.start, limit, whole=False)
                numbered = enumerate(pieces, part.position)
                yield (
                    part,
                    (self._record(piece, at, limit, header) for at, piece in numbered if not piece.blank),
                )

    def _header(self, file: StoredFile, limit: int) -> bytes:
        with file.stream() as stream:
            layout, start, rest = self._begun(chunks(stream))
            pieces = self.pieces(layout, rest, start, limit, whole=True)
            return next((_whole(piece, file.name, limit) for piece in pieces if not piece.blank), b"")

    def _begun(self, content: Iterator[bytes]) -> tuple[str, int, Iterator[bytes]]:
        """How the text is laid out, where its records begin, and the bytes from there on."""
        head = b""
        for chunk in content:
            head += chunk
            if len(head) > CHUNK_BYTES or (len(head) >= len(BOM) and self.enough(head.removeprefix(BOM))):
                break
        layout, start = self.begin(head)
        return layout, start, chain([head[start:]], content)

    def _record(self, piece: Piece, position: int, limit: int, header: bytes) -> Record:
        whole = piece.length == len(piece.data)
        if not whole:
            return too_long(position, piece.length, limit, piece.data)
        return self.parse(piece.data, position, header)


def _whole(piece: Piece, name: str, limit: int) -> bytes:
    if piece.length > len(piece.data):
        found = f"its header has {piece.length:,} bytes, more than the limit of {limit:,}"
        raise UsageError(found, where=name, remedy="mend the file, or raise --max-record-bytes")
    return piece.data
