"""Cut lines, arrays and objects into the bytes of their records, in one pass and bounded memory.

Both cutters yield the same pieces, so that everything after them is the same for all layouts.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

JSON_SPACE = b" \t\r\n"
BOM = b"\xef\xbb\xbf"
MOST_OPEN = 1 << 16
"""Lists and objects that may be open at once in an array's element; a record is rejected at far fewer."""


class Piece(NamedTuple):
    """``length`` bytes of the file from ``start`` on; ``data`` is their beginning if they are over the limit."""

    start: int
    length: int
    data: bytes

    @property
    def blank(self) -> bool:
        return self.length == len(self.data) and not self.data.strip(JSON_SPACE)


class Broken(ValueError):
    """An array that cannot be cut into elements; the text says where and why."""


class OpenPiece:
    """A piece whose end has not been seen: at most ``limit`` bytes of it are kept."""

    def __init__(self, start: int, limit: int) -> None:
        self.start, self.length, self.limit = start, 0, limit
        self.pieces: list[bytes] = []

    def add(self, data: bytes) -> None:
        if self.length <= self.limit:
            self.pieces.append(data[: self.limit + 1 - self.length])
        self.length += len(data)

    def close(self, data: bytes) -> Piece:
        self.add(data)
        return Piece(self.start, self.length, b"".join(self.pieces)[: self.limit])


def lines(data: Iterable[bytes], start: int, limit: int) -> Iterator[Piece]:
    """Each line without its line feed, blank ones too; data begins at offset ``start`` of the file."""
    pending = OpenPiece(start, limit)
    for chunk in data:
        first, *others = chunk.split(b"\n")
        if not others:
            pending.add(first)
            continue
        last = others.pop()
        piece = pending.close(first)
        yield piece
        offset = piece.start + piece.length + 1
        for line in others:
            yield Piece(offset, len(line), line[:limit])
            offset += len(line) + 1
        pending = OpenPiece(offset, limit)
        pending.add(last)
    if pending.length:
        yield pending.close(b"")


# What the scan stops at: an object with no list or object in it, as a whole; a string up to its closing
# quote or the end of the chunk (group 1 says which); a mark of structure (group 2). Repeats are possessive:
# nothing is tried twice in another way.
_STRING_END = rb'[^"\\]*+(?:\\.[^"\\]*+)*+("|\\?\Z)'
_FLAT_OBJECT = rb'\{[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+\}'
_TOKEN = re.compile(_FLAT_OBJECT + rb'|"' + _STRING_END + rb"|([\[\]{},])", re.DOTALL)
_IN_STRING = re.compile(_STRING_END, re.DOTALL)
_CLOSERS = {b"[": ord("]"), b"{": ord("}")}


def elements(
    data: Iterable[bytes],
    start: int,
    limit: int,
    whole: bool = True,
    closer: bytes = b"]",
    behind: Callable[[bytes, int], None] | None = None,
) -> Iterator[Piece]:
    """Each element of a JSON array, without the commas; data begins after the ``[``, at offset ``start``.

    With ``whole`` the array has to close, and only white space may follow, or what ``behind`` allows, which is given
    those bytes and their offset; otherwise data ends after an element. Members of an object have another ``closer``.
    Elements are cut apart here, not parsed: what is in them may still be wrong. Raises Broken where the rest cannot be
    cut.
    """
    behind = behind or _only_space
    pending = OpenPiece(start, limit)
    closers = bytearray()  # of the lists and objects that are open inside the element
    in_string = escaped = closed = False
    offset, count = start, 0
    for chunk in data:
        at = begin = 0
        if closed:
            behind(chunk, offset)
        elif in_string:
            match = _IN_STRING.match(chunk, 1 if escaped else 0)
            assert match is not None, "the pattern matches any bytes"
            in_string, escaped, at = match[1] != b'"', match[1] == b"\\", match.end()
        if not closed and not in_string:
            for match in _TOKEN.finditer(chunk, at):
                if match.lastindex is None:
                    continue
                token = match[2]
                if token is None:
                    in_string, escaped = match[1] != b'"', match[1] == b"\\"
                elif token in _CLOSERS:
                    closers.append(_CLOSERS[token])
                    if len(closers) > MOST_OPEN:
                        raise Broken(f"element {count} is nested more than {MOST_OPEN:,} deep")
                elif token == b"," and closers:
                    continue
                elif closers or token not in (b",", closer):
                    if not closers or closers.pop() != token[0]:
                        raise Broken(f"element {count} closes what it did not open{_byte(offset, match)}")
                else:
                    piece = pending.close(chunk[begin : match.start()])
                    closed, begin = token == closer, match.end()
                    if not piece.blank:
                        yield piece
                    elif token == b"," or count:
                        raise Broken(f"element {count} is empty{_byte(offset, match)}")
                    count += 1
                    pending = OpenPiece(offset + begin, limit)
                    if closed:
                        behind(chunk[begin:], offset + begin)
                        break
        offset += len(chunk)
        if not closed:
            pending.add(chunk[begin:])
    if whole and not closed:
        raise Broken(f"the array is cut short in element {count}, at byte {offset}")
    if not whole:
        yield pending.close(b"")


def _byte(offset: int, match: re.Match[bytes]) -> str:
    return f", at byte {offset + match.start()}"


def _only_space(data: bytes, offset: int) -> None:
    if garbage := data.lstrip(JSON_SPACE):
        raise Broken(f"the array has ended and something follows, at byte {offset + len(data) - len(garbage)}")
