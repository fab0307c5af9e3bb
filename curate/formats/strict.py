"""JSON read strictly: what lax parsers change without a word is refused, in a record and in text inside it."""

import json
from collections import Counter
from typing import Any, NoReturn

MAX_DEPTH = 100
"""Lists and objects inside one another. Interpreters give up at different depths; this is the same on all."""


class Refused(ValueError):
    """JSON of which a parser would keep something else than it says; the text is the reason."""


def loads(text: str) -> Any:
    """The value. Raises json.JSONDecodeError for what is no JSON, and Refused for JSON that has no one meaning."""
    try:
        value = _DECODER.decode(text)
    except (json.JSONDecodeError, Refused):
        raise
    except RecursionError as error:
        raise Refused(f"nested more than {MAX_DEPTH} deep") from error
    except ValueError as error:  # the interpreter's own limit on converting digits, which guards against quadratic time
        raise Refused("a number has too many digits") from error
    if text.count("[") + text.count("{") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise Refused(f"nested more than {MAX_DEPTH} deep")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise Refused(f"duplicate key {ascii(twice)[:60]}")
    return fields


def _constant(name: str) -> NoReturn:
    raise Refused(f"{name} is not JSON")


def _float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise Refused(f"the number {digits[:40]} is out of range")
    return number


# The standard library's parser, because it can be told of duplicate keys, NaN and overflow; faster parsers
# take or change them without a word, and parsing is little of what scoring a record costs.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


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
