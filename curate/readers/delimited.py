"""CSV and TSV, as RFC 4180 writes them: fields in quotes may hold separators, line breaks and doubled quotes.

A quote opens a field only where the field begins; in the middle of one it is a character like any other. The standard
library parses a record, strictly: other parsers end at the first bad one, or guess types, and begin at the top only.
"""

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from curricle.curate.readers.base import TextReader
from curricle.curate.readers.records import Record
from curricle.curate.readers.split import OpenPiece, Piece
from curricle.schemas.common.errors import UsageError

csv.field_size_limit(sys.maxsize)  # --max-record-bytes is the limit

_DELIMITERS = (";", "\t", "|", ",")  # of which one column's name has none

_MARK = re.compile(rb'["\n]')


@dataclass(frozen=True)
class Delimited(TextReader):
    """Values between separators. ``columns`` names them where no line of the file does."""

    name: str
    suffixes: Sequence[str]
    delimiter: str
    columns: tuple[str, ...] = ()
    remedy = "close the quotes, or write the file again"
    no_names = "; if its first line is a record, name the columns, with --columns question,answer"

    @property
    def header(self) -> bool:  # type: ignore[override]
        return not self.columns

    def check_header(self, header: bytes, name: str) -> None:
        remedy = "name each column once, in the first line, or with --columns A,B,… where no line does"
        try:
            names = _fields(header, self.delimiter)
        except ValueError as error:
            raise UsageError(f"its first line is not {self.name}: {error}", where=name, remedy=remedy) from error
        other = next((each for each in _DELIMITERS if each in names[0]), None) if len(names) == 1 else None
        if other:
            tabs = f"; with tabs it is TSV: name it {TSV.suffixes[0]}" if other == "\t" else ""
            raise UsageError(
                f"its first line is separated by {other!r}, and those of {self.name} by {self.delimiter!r}",
                where=name,
                remedy=f"write it with {self.delimiter!r} between the fields{tabs}",
            )
        if twice := next((each for each, count in Counter(names).items() if count > 1), None):
            raise UsageError(f"two columns are named {twice[:40]!r}", where=name, remedy=remedy)

    def cut(self, data: Iterable[bytes], start: int, limit: int) -> Iterator[Piece]:
        """A line feed outside quotes ends a record."""
        opens = self.delimiter.encode()
        piece, offset, before = OpenPiece(start, limit), start, opens
        quoted, closed = False, -1
        for chunk in data:
            begin = 0
            for mark in _MARK.finditer(chunk):
                at = mark.start()
                if mark[0] == b"\n":
                    if not quoted:
                        yield piece.close(chunk[begin:at])
                        begin = at + 1
                        piece = OpenPiece(piece.start + piece.length + 1, limit)
                elif quoted:
                    quoted, closed = False, offset + at
                elif closed == offset + at - 1:
                    quoted = True  # a doubled quote inside a field
                else:
                    last = chunk[at - 1 : at] or before
                    quoted = last in (opens, b"\n")
            piece.add(chunk[begin:])
            offset += len(chunk)
            before = chunk[-1:] or before
        if piece.length:
            yield piece.close(b"")

    def parse(self, data: bytes, position: int, header: bytes) -> Record:
        try:
            names = self.columns or _header(header, self.delimiter)
            values = _fields(data, self.delimiter)
        except ValueError as error:
            return Record(position, None, f"not {self.name}: {error}", data)
        if len(names) != len(values):
            named = "--columns names" if self.columns else "the header names"
            return Record(position, None, f"{len(values)} fields, where {named} {len(names)}", data)
        return Record(position, dict(zip(names, values, strict=True)), None, data)


def _fields(line: bytes, delimiter: str) -> list[str]:
    """The values of one record. ValueError for what is not UTF-8 or badly quoted."""
    try:
        rows = [*csv.reader(io.StringIO(line.decode(), newline=""), strict=True, delimiter=delimiter)]
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start}") from error
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if len(rows) != 1:
        raise ValueError("a line break that is no line feed, outside quotes")
    return rows[0]


_header = lru_cache(_fields)

CSV = Delimited("CSV", (".csv",), ",")
TSV = Delimited("TSV", (".tsv",), "\t")
