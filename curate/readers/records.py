"""One record of a file: parsed strictly, or the reason why it cannot be."""

import json
from collections import Counter
from typing import Any, NamedTuple, NoReturn

RAW_LIMIT = 2000
"""Characters of a record that a reject keeps."""

MAX_DEPTH = 100
"""Lists and objects inside one another. Interpreters give up at different depths; this is the same on all."""


class Record(NamedTuple):
    """A record: its value, or, if there is a ``reason``, none.

    ``position`` is the line in a file of lines (from 0, blank lines counted), the index in an array, or the
    row in a Parquet file.
    """

    position: int
    value: Any
    reason: str | None = None
    source: bytes = b""

    @property
    def raw(self) -> str:
        """The record's first ``RAW_LIMIT`` characters as they stood in the file, or, for Parquet, as JSON.

        Always valid Unicode: bytes that are not UTF-8 are written as ``\\xNN``.
        """
        if self.value is not None and not self.source:
            return json.dumps(self.value, ensure_ascii=False)[:RAW_LIMIT]
        return self.source[: 4 * RAW_LIMIT].decode("utf-8", "backslashreplace")[:RAW_LIMIT]


class _Refused(ValueError):
    """Something that the parser would let pass."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise _Refused(f"duplicate key {ascii(twice)[:60]}")
    return made


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


def _float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise _Refused(f"the number {digits[:40]} is out of range")
    return number


def too_long(position: int, length: int, limit: int, data: bytes) -> Record:
    """The reject of a record that is over the limit on its size, of which ``data`` is the beginning."""
    return Record(position, None, f"the record has {length:,} bytes, more than the limit of {limit:,}", data)


# The standard library's parser, because it can be told of duplicate keys, NaN and overflow; faster parsers
# take or change them without a word, and parsing is little of what scoring a record costs.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def parse(data: bytes, position: int) -> Record:
    """The record in these bytes of JSON; whatever is wrong with them becomes its reason."""
    try:
        value = _DECODER.decode(data.decode("utf-8"))
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
            raise RecursionError
        return Record(position, value, None, data)
    except UnicodeDecodeError as error:
        reason = f"invalid UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg} at column {error.pos + 1}"
    except RecursionError:
        reason = f"nested more than {MAX_DEPTH} deep"
    except _Refused as error:
        reason = str(error)
    except ValueError:  # the interpreter's own limit on converting digits, which guards against quadratic time
        reason = "a number has too many digits"
    return Record(position, None, reason, data)


def _deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for node in level
            if isinstance(node, (list, dict))
            for child in (node if isinstance(node, list) else node.values())
        ]
        if not level:
            return False
    return True
