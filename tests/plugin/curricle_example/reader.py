"""Tab-separated values with a header line; no quotes, so that a line is a record."""

from collections.abc import Iterable, Iterator, Sequence

from curricle.curate.readers import Piece, Record, TextReader, lines


class Tab(TextReader):
    name = "TAB"
    suffixes: Sequence[str] = (".tab",)
    header = True

    def cut(self, data: Iterable[bytes], start: int, limit: int) -> Iterator[Piece]:
        return lines(data, start, limit)

    def parse(self, data: bytes, position: int, header: bytes) -> Record:
        try:
            names, values = (text.decode().rstrip("\r").split("\t") for text in (header, data))
        except UnicodeDecodeError as error:
            return Record(position, None, f"not UTF-8: {error}", data)
        if len(names) != len(values):
            return Record(position, None, f"{len(values)} fields, where the header names {len(names)}", data)
        return Record(position, dict(zip(names, values, strict=True)), None, data)


TAB = Tab()
