"""JSON as text: a record a line, or an array of them."""

from collections.abc import Iterable, Iterator, Sequence

from curricle.curate.readers.base import TextReader
from curricle.curate.readers.records import Record, parse
from curricle.curate.readers.split import BOM, JSON_SPACE, Piece, elements, lines


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


class Json(JsonLines):
    """An array or lines, which the file's first byte that is not white space decides."""

    name = "JSON"
    suffixes = (".json",)
    may_be_empty = False

    def begin(self, head: bytes) -> tuple[str, int]:
        text = head.removeprefix(BOM).lstrip(JSON_SPACE)
        return ("elements", len(head) - len(text) + 1) if text.startswith(b"[") else super().begin(head)

    def pieces(self, layout: str, data: Iterable[bytes], start: int, limit: int, whole: bool) -> Iterator[Piece]:
        return elements(data, start, limit, whole) if layout == "elements" else lines(data, start, limit)
