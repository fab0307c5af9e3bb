"""One JSON object that holds the records of a file: in a list of it, or each under a key of its own."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from curricle.curate.formats import strict
from curricle.curate.formats.beside import LIST_FIELDS
from curricle.curate.readers.split import JSON_SPACE, Broken, Piece, elements

LISTS = ("data", "train", "records", "rows", "examples", "instances", "items", "samples", "entries", "questions")
OTHER_LISTS = ("test", "validation", "valid", "dev", "eval", "val")
"""Lists of records, too, which are not read as if they were one set."""
OF_A_RECORD = (
    *LIST_FIELDS,
    *("chat", "instruction", "prompt", "question", "query", "chosen", "input", "inputs", "text"),
)
"""Names that say that the object is a record itself."""
MOST_BESIDE = 1 << 20
"""Bytes behind the records' list that are looked at."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\[\]{}\"]+")
_NESTED = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


class Container(NamedTuple):
    """Where the records are: the elements of the list under ``name``, or, without a name, the object's own members.

    ``start`` is the offset of the first, behind the bracket.
    """

    name: str
    start: int


def container(head: bytes) -> Container | None:
    """How the object that begins at the start of ``head`` holds records; None if it is one, or a line of several.

    ``head`` is the file's beginning, or all of it. An object that ends in it, with more behind, is a line.
    """
    at = first_member = _skip(head, 1)
    inside, lists, are_objects = None, [], set[bool]()
    while True:
        at = _skip(head, at)
        if head[at : at + 1] == b"}":
            if head[at + 1 :].strip(JSON_SPACE):
                return None  # of one object in each line
            break
        key = _STRING.match(head, at)
        if key is None:
            return None
        name = key[0][1:-1].decode("utf-8", "replace")
        at = _skip(head, key.end())
        if head[at : at + 1] != b":":
            return None
        at = _skip(head, at + 1)
        if name in OF_A_RECORD:
            return None
        opens, first = head[at : at + 1], _skip(head, at + 1)
        if opens == b"[" and head[first : first + 1] in (b"{", b"["):
            if name in LISTS and not inside:
                inside = Container(name, at + 1)
            elif name in (*LISTS, *OTHER_LISTS):
                lists.append(name)
        are_objects.add(opens == b"{")
        end = _end(head, at)
        if end is None:  # the head ends in this value
            break
        at = _skip(head, end)
        if head[at : at + 1] == b",":
            at += 1
        elif head[at : at + 1] != b"}":
            break
    if inside and lists:
        raise _several(inside.name, lists[0])
    if inside:
        return inside
    return Container("", first_member) if are_objects == {True} else None


def listed(data: Iterable[bytes], name: str, start: int, limit: int) -> Iterator[Piece]:
    """The elements of the list under this name, and what follows it checked to the object's end. Raises Broken."""
    rest: list[bytes] = []
    size = 0

    def look_at(chunk: bytes, _: int) -> None:
        nonlocal size
        size += len(chunk)
        if size > MOST_BESIDE:
            raise Broken(f"more than {MOST_BESIDE:,} bytes follow the list of records, {name!r}")
        rest.append(chunk)

    yield from elements(data, start, limit, behind=look_at)
    try:
        fields = strict.loads((b'{"":0' + b"".join(rest)).decode())
    except (json.JSONDecodeError, strict.Refused, UnicodeDecodeError) as error:
        raise Broken(f"what follows the list of records, {name!r}, is not the rest of an object: {error}") from error
    _check_alone(name, fields)


def _check_alone(name: str, fields: dict[str, Any]) -> None:
    for other in (*LISTS, *OTHER_LISTS):
        value = fields.get(other)
        if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
            raise _several(name, other)


def _several(name: str, other: str) -> Broken:
    return Broken(f"the object has records in {name!r} and in {other!r}: put each list into a file of its own")


def _skip(head: bytes, at: int) -> int:
    while at < len(head) and head[at] in JSON_SPACE:
        at += 1
    return at


def _end(head: bytes, at: int) -> int | None:
    """Where the value ends that begins at ``at``; None if that is beyond the head."""
    if head[at : at + 1] == b'"':
        string = _STRING.match(head, at)
        return string.end() if string else None
    if head[at : at + 1] not in (b"[", b"{"):
        scalar = _SCALAR.match(head, at)
        return scalar.end() if scalar and scalar.end() < len(head) else None
    depth = 0
    for mark in _NESTED.finditer(head, at):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(mark[0], 0)
        if not depth:
            return mark.end()
    return None
