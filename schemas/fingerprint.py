"""Identity of content: the same bytes give the same digest on every machine (docs/design.md, law 3)."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import IO, Any

from curricle.schemas.inputs import REJECTED, context_turns, fields_of, rejected, with_input

_JSON = json.JSONDecoder()
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
DIGEST_BYTES = 16  # 128 bits: a collision among 10^12 examples has a probability below 10^-14


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space; raises ValueError on NaN and infinities."""
    return _CANONICAL.encode(value)


@dataclass(frozen=True)
class LongArray:
    """A JSON array held as its canonical text, which is a few bytes a number: its elements are made one at a time.

    It equals a list of the same elements.
    """

    text: str

    @classmethod
    def of(cls, elements: Iterable[Any]) -> "LongArray":
        text = StringIO()
        text.write("[")
        for index, element in enumerate(elements):
            text.write(f"{',' if index else ''}{canonical_json(element)}")
        text.write("]")
        return cls(text.getvalue())

    def __iter__(self) -> Iterator[Any]:
        at = 1
        while at < len(self.text) - 1:
            element, end = _JSON.raw_decode(self.text, at)
            yield element
            at = end + 1

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LongArray):
            return self.text == other.text
        return isinstance(other, list) and self.text == canonical_json(other)


def digest(value: Any) -> str:
    """32 hex digits that identify a JSON-like value, which may have arrays that are held as text."""
    result = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for piece in _pieces(value) if isinstance(value, dict) else [canonical_json(value)]:
        result.update(piece.encode())
    return result.hexdigest()


def _pieces(value: Any) -> Iterator[str]:
    """Canonical JSON of a value, in pieces around the arrays that are held as text."""
    if isinstance(value, LongArray):
        yield value.text
    elif isinstance(value, dict) and _has_long(value):
        for index, key in enumerate(sorted(value)):
            yield f"{',' if index else '{'}{canonical_json(key)}:"
            yield from _pieces(value[key])
        yield "}"
    elif isinstance(value, list) and _has_long(value):
        for index, each in enumerate(value):
            yield "," if index else "["
            yield from _pieces(each)
        yield "]"
    else:
        yield canonical_json(value)


def _has_long(value: Any) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, LongArray) or any(map(_has_long, inside))


def example_id(messages: Iterable[tuple[str, str]], extra: str | Mapping[str, object] | None = None) -> str:
    """The identity of an example: the digest of its ``(role, content)`` turns, in order.

    ``extra``: the column of the table, or its fields. An input in it that a template writes by itself is a part of its
    turn, as two renderings may not have one identity; so is whether a turn is context. Other answers that were rejected
    make another example.
    """
    fields = fields_of(extra)
    if not fields:
        return digest([*messages])
    turns: list[list[Any]] = [
        [*turn.values()]
        for turn in with_input([{"role": role, "content": content} for role, content in messages], fields)
    ]
    for index in context_turns([turn[0] for turn in turns], fields):
        turns[index].append(False)
    answers = [
        [REJECTED, turn, *([each["role"], each["content"]] for each in answer)] for turn, answer in rejected(fields)
    ]
    return digest([*turns, *answers])


def stands_for(identity: str, messages: Sequence[tuple[str, str]], extra: str | None) -> bool:
    """Whether this is the identity of an example; in tables that are older, inputs are no part of it."""
    return identity in (example_id(messages, extra), example_id(messages))


def file_sha256(stream: IO[bytes], size: int | None = None) -> str:
    """SHA-256, in hex, of what is left in a binary stream, or of its next ``size`` bytes."""
    sha256, left = hashlib.sha256(), float("inf") if size is None else size
    while left and (chunk := stream.read(int(min(left, 1 << 20)))):  # streams of remote filesystems can read, no more
        sha256.update(chunk)
        left -= len(chunk)
    return sha256.hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line for each leaf in which two identities differ, for a message that a person reads."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before!r} there, {after!r} now")
    return lines
