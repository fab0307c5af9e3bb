"""Texts to numbers of pretokens in a compiled loop: each is looked up by its bytes, and no string is made of it."""

import re
import secrets
from collections.abc import Sequence

import numpy as np
from curricle.curate.compiled import compiled
from curricle.curate.proxy.pretokens.automaton import END, automaton
from curricle.schemas.chat.pretokens import EFFORT, LONGEST, Ints, Splitter

_PIECE, _ASCII, _OTHER = range(3)
"""What a text is: one pretoken, or one that is cut."""
_MET, _NUMBERED, _NEW = range(3)
"""What is counted."""
_NONE = -1
_ROOM = 1 << 15

# Results do not depend on it. It keeps texts from being written so that their pretokens collide.
_ODD = np.uint64(secrets.randbits(64) | 1)


def _in_bytes(pattern: str) -> str:
    """A pattern of the bytes of UTF-8, each as a character. What is not ASCII may only be repeated in groups."""
    return pattern.encode("utf-8", "surrogatepass").decode("latin-1")


_GAPS = "|".join(re.findall(r"[^\S ]", "".join(map(chr, range(0x10000)))))
_BEFORE_SPACES = _in_bytes(f" *(?:(?:{_GAPS}) *|[^ ])*")
"""Up to a space that follows no white space: there splitters cut what is not ASCII."""


class NumbersByBytes:
    """``schemas.chat.pretokens.PretokenNumbers`` of texts that a splitter cuts by expressions.

    Each pretoken that was met has its bytes behind those of the one before, and its index, counted from 1, in a hash
    table with open addressing.
    """

    def __init__(self, splitter: Splitter, numbered: Sequence[str] = ()) -> None:
        """``numbered``: those that have numbers already, in their order."""
        assert splitter.pretokens, "no expression"
        patterns = _in_bytes(splitter.added.pattern), splitter.pretokens.pattern, _BEFORE_SPACES
        self._tables = tuple(map(automaton, patterns))
        self._sizes = np.zeros(3, np.int64)
        self._bytes, self._edges = np.empty(0, np.uint8), np.zeros(1, np.int64)
        self._numbers = self._new = np.empty(0, np.int32)
        self._make_room(0)
        self._look_up(numbered, [_PIECE] * len(numbered), 0)
        self.take_new()

    def of(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        return self._look_up(texts, [_ASCII if text.isascii() else _OTHER for text in texts], EFFORT)

    def _look_up(self, texts: Sequence[str], kinds: list[int], effort: int) -> tuple[Ints, Ints]:
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        text, edges = np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)])
        numbers, counts = np.empty(len(text), np.int64), np.zeros(len(texts), np.int64)
        row = written = 0
        while True:
            row, written = _look_up(
                *(text, edges, np.array(kinds, np.int8), *self._tables, effort, LONGEST),
                *(self._slots, self._bytes, self._edges, self._numbers, self._new, self._sizes, _ODD),
                *(numbers, counts, row, written),
            )
            if row == len(counts):
                return numbers[:written], counts
            self._make_room(len(encoded[row]))

    def _make_room(self, amount: int) -> None:
        """For a text of so many bytes at least, and twice as much as there was."""
        room = 2 * (len(self._numbers) + amount) or _ROOM
        self._bytes, self._edges = _longer(self._bytes, 8 * room), _longer(self._edges, room + 1)
        self._numbers, self._new = _longer(self._numbers, room), _longer(self._new, room)
        self._slots = np.zeros(1 << (2 * room - 1).bit_length(), np.int32)
        _fill(self._slots, self._bytes, self._edges, self._sizes[_MET], _ODD)

    def take_new(self) -> list[str]:
        new, self._sizes[_NEW] = self._new[: self._sizes[_NEW]], 0
        starts, ends = self._edges[new].tolist(), self._edges[new + 1].tolist()
        view = self._bytes.data
        return [str(view[start:end], "utf-8", "surrogatepass") for start, end in zip(starts, ends, strict=True)]

    @property
    def size(self) -> int:
        return int(self._sizes[_MET])


def _longer(array, size):  # type: ignore[no-untyped-def]
    longer = np.empty(size, array.dtype)
    longer[: len(array)] = array
    return longer


@compiled
def _look_up(  # type: ignore[no-untyped-def]
    text, edges, kinds, added, pretokens, before_spaces, effort, longest,
    slots, arena, starts, numbers, new, sizes, odd,
    result, counts, row, written,
):  # fmt: skip
    """Write the numbers of the pretokens of texts, from ``row`` on: how many texts are done, and numbers written."""
    while row < counts.size:
        at, end, kind = edges[row], edges[row + 1], kinds[row]
        if sizes[_MET] + end - at > numbers.size or starts[sizes[_MET]] + end - at > arena.size:
            break
        before, first, characters, strange, too_long = sizes[_NEW], written, 0, 0, False
        added_at = added_end = part = end if kind == _PIECE else at
        is_ascii = False
        while at < end:
            if at == added_end:  # look for the next added token
                added_at = at
                while added_at < end:
                    if added[1, text[added_at]]:
                        added_end = _match(added, text, added_at, end)
                        if added_end > added_at:
                            break
                    added_at += 1
            if at == added_at:
                stop, is_ascii = added_end, False
            else:
                if at >= part:
                    part = added_at if kind == _ASCII else _match(before_spaces, text, at, added_at)
                    is_ascii = kind == _ASCII or _characters(text, at, part) == part - at
                stop = _match(pretokens, text, at, part) if is_ascii else part
            length = stop - at if is_ascii else _characters(text, at, stop)
            characters += length
            if length > longest:
                too_long = True
            else:
                slot = _slot(text, at, stop, slots, arena, starts, odd)
                index = slots[slot] - 1
                if index < 0:
                    strange += 1
                    index = sizes[_MET]
                    starts[index + 1] = starts[index] + stop - at
                    arena[starts[index] : starts[index + 1]] = text[at:stop]
                    numbers[index] = _NONE
                    sizes[_MET] += 1
                    slots[slot] = sizes[_MET]
                if numbers[index] == _NONE:
                    numbers[index] = sizes[_NUMBERED]
                    new[sizes[_NEW]] = index
                    sizes[_NUMBERED] += 1
                    sizes[_NEW] += 1
                result[written] = numbers[index]
                written += 1
            at = stop
        if too_long or strange * effort > characters:
            for index in new[before : sizes[_NEW]]:
                numbers[index] = _NONE
            sizes[_NUMBERED] -= sizes[_NEW] - before
            sizes[_NEW] = before
            written = first
        counts[row] = written - first
        row += 1
    return row, written


@compiled
def _characters(text, at, end):  # type: ignore[no-untyped-def]
    """How many characters bytes are: all but their first ones are 10…"""
    count = 0
    for position in range(at, end):
        count += text[position] & 0xC0 != 0x80
    return count


@compiled
def _match(table, text, at, end):  # type: ignore[no-untyped-def]
    """Where the match ends that begins at this position; the position itself if there is none."""
    row, stop = 1, at
    for position in range(at, end):
        step = table[row, text[position]]
        if step & 1:
            stop = position
        row = step >> 1
        if row == 0:
            return stop
    return end if table[row, END] & 1 else stop


@compiled
def _slot(text, at, end, slots, arena, starts, odd):  # type: ignore[no-untyped-def]
    """The slot of a pretoken: its own, or the empty one where it is to be."""
    mixed = odd
    for position in range(at, end):
        mixed = (mixed ^ np.uint64(text[position])) * odd
    slot = np.int64(mixed >> np.uint64(32)) & (slots.size - 1)
    while slots[slot]:
        start = starts[slots[slot] - 1]
        if starts[slots[slot]] - start == end - at:
            same = 0
            while same < end - at and arena[start + same] == text[at + same]:
                same += 1
            if same == end - at:
                break
        slot = (slot + 1) & (slots.size - 1)
    return slot


@compiled
def _fill(slots, arena, starts, amount, odd):  # type: ignore[no-untyped-def]
    for index in range(amount):
        slots[_slot(arena, starts[index], starts[index + 1], slots, arena, starts, odd)] = index + 1
