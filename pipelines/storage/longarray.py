"""Reading and writing JSON of which an array is very long, without a list for each of its elements.

The parser is that of the standard library, an element at a time. A streaming one such as ijson hands over every number
by itself, and takes some texts for JSON that whoever reads the same file whole does not.
"""

import json
import re
from io import StringIO
from typing import Any
from uuid import uuid4

from curricle.schemas.fingerprint import LongArray, canonical_json

_SPACE = rb"[ \t\n\r]*"
_ELEMENT = re.compile(rb'%s(\[%s"(?:[^"\\]|\\.)*"(?:%s,%s-?[0-9]+)*%s\])%s([,\]])' % (*[_SPACE] * 6,))
"""A list of a string and integers, and what comes after it."""
_END = re.compile(rb"%s\]" % _SPACE)


def loads(data: bytes, among: str, key: str) -> Any:
    """The same as ``json.loads``, but that each object in the list ``among`` of an object has a ``LongArray`` for
    ``key``, if in all of them that is a list of lists, of a string and integers.
    """
    arrays: list[LongArray] = []
    rest, done, mark = bytearray(), 0, uuid4().hex
    # this is a key: a quote within a string has a backslash before it
    for begin in re.finditer(rb'(?<!\\)"%s"%s:%s\[' % (key.encode(), _SPACE, _SPACE), data):
        cut = _cut(data, begin.end())
        if cut is None:
            return json.loads(data)
        rest += data[done : begin.end() - 1] + f'"{mark}{len(arrays)}"'.encode()
        done = cut[1]
        arrays.append(cut[0])
    if not arrays:
        return json.loads(data)
    value = json.loads(bytes(rest + data[done:]))
    objects = value.get(among) if isinstance(value, dict) else None
    marks = [f"{mark}{index}" for index in range(len(arrays))]
    objects = [each for each in objects if isinstance(each, dict)] if isinstance(objects, list) else []
    if marks != [each.get(key) for each in objects]:
        return json.loads(data)
    for each, array in zip(objects, arrays, strict=True):
        each[key] = array
    return value


def dumps(value: Any) -> str:
    """JSON on many lines, but that each ``LongArray`` has one. ValueError for NaN and infinities."""
    arrays: list[LongArray] = []
    mark = uuid4().hex

    def marked(array: object) -> str:
        assert isinstance(array, LongArray), f"{type(array)} is no JSON"
        arrays.append(array)
        return f"{mark}{len(arrays) - 1}"

    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False, default=marked)
    return re.sub(f'"{mark}([0-9]+)"', lambda match: arrays[int(match[1])].text, text)


def _cut(data: bytes, at: int) -> tuple[LongArray, int] | None:
    """An array from after its bracket, and where it ends; None if there is anything else among its elements."""
    text = StringIO()
    while element := _ELEMENT.match(data, at):
        text.write("," if text.tell() else "[")
        text.write(canonical_json(json.loads(element[1])))
        at = element.end()
        if element[2] == b"]":
            text.write("]")
            return LongArray(text.getvalue()), at
    end = None if text.tell() else _END.match(data, at)
    return (LongArray("[]"), end.end()) if end else None
