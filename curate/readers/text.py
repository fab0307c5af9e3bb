"""JSON as text: a record a line, or an array of them."""

import logging
from collections.abc import Iterable, Iterator, Sequence

from curricle.curate.readers.base import Extent, TextReader
from curricle.curate.readers.nested.containers import container, listed
from curricle.curate.readers.records import Record, parse
from curricle.curate.readers.split import BOM, JSON_SPACE, Piece, elements, lines
from curricle.curate.readers.streams import SurveyedFile
from curricle.schemas.common.log import printable

log = logging.getLogger("curricle")


class JsonLines(TextReader):
    name = "JSON lines"
    layout = "lines"
    suffixes: Sequence[str] = (".jsonl", ".ndjson")
    may_be_empty = True
    remedy = "mend the file, or write one record a line"

    def cut(self, data: Iterable[bytes], start: int, limit: int) -> Iterator[Piece]:
        return lines(data, start, limit)

    def parse(self, data: bytes, position: int, header: bytes) -> Record:
        return parse(data, position)


OF, MEMBERS = "elements of ", "members"


class Json(JsonLines):
    """An array, an object that holds the records, or lines, which the file's beginning decides."""

    name = "JSON"
    suffixes = (".json",)
    may_be_empty = False

    def begin(self, head: bytes) -> tuple[str, int]:
        text = head.removeprefix(BOM).lstrip(JSON_SPACE)
        before = len(head) - len(text)
        if text.startswith(b"["):
            return "elements", before + 1
        if text.startswith(b"{") and (inside := container(text)):
            return OF + inside.name if inside.name else MEMBERS, before + inside.start
        return super().begin(head)

    def extents(self, file: SurveyedFile, limit: int) -> Iterator[Extent]:
        for number, extent in enumerate(super().extents(file, limit)):
            if not number and extent.layout.startswith(OF):
                words = "%s: the records are those of its list %r; what stands beside it is not read"
                log.info(words, printable(file.name), extent.layout.removeprefix(OF))
            yield extent

    def enough(self, head: bytes) -> bool:
        text = head.lstrip(JSON_SPACE)
        return bool(text) and not text.startswith(b"{")

    def pieces(self, layout: str, data: Iterable[bytes], start: int, limit: int, whole: bool) -> Iterator[Piece]:
        if layout == MEMBERS:
            return elements(data, start, limit, whole, closer=b"}")
        if layout.startswith(OF) and whole:
            return listed(data, layout.removeprefix(OF), start, limit)
        return lines(data, start, limit) if layout == self.layout else elements(data, start, limit, whole)

    def parse(self, data: bytes, position: int, header: bytes) -> Record:
        """A member of an object is the record that it is, with its key in the field ``key``."""
        record = super().parse(data, position, header)
        if record.value is not None or not data.lstrip(JSON_SPACE).startswith(b'"'):
            return record
        member = super().parse(b"{" + data + b"}", position, header)
        if not isinstance(member.value, dict) or len(member.value) != 1:
            return record
        ((key, value),) = member.value.items()
        return Record(position, {"key": key, **value} if isinstance(value, dict) else value, None, data)
