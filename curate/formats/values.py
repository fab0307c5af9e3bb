"""Values as files give them: which of them say nothing, how one value is always written, and what JSON lacks.

The same record, in lines of JSON and in Parquet, has to become the same conversation. Arrow gives every object of
a column the keys of all the others, as null, in one order, and makes every number of it a float where one is. So
null keys are absent, keys have one order, and whole numbers are written as such, in whatever file they came. JSON
that a record holds as *text* is its author's own, and keeps its nulls, order and numbers.

Dates, decimals, bytes and the like are content of no conversation: they have stand-ins in ``extra`` alone.
"""

import base64
import json
import math
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

KEY_ORDER = {
    name: index
    for index, name in enumerate(("type", "function", "name", "description", "parameters", "properties", "required"))
}
"""How tools are written everywhere; other keys follow by name."""

EXACT = 2.0**53
"""Below it a float is one whole number only."""

KINDS = (
    (type(None), "null"),
    (bool, "true or false"),
    (str, "text"),
    (bytes, "bytes"),
    ((list, tuple), "a list"),
    (dict, "an object"),
    (Decimal, "a decimal number"),
    ((date, time), "a date or time"),
    (timedelta, "a duration"),
)


@dataclass(frozen=True)
class Unreadable:
    """A value of a Parquet column that Python has no form for, and why."""

    reason: str


class NotJson(ValueError):
    """A value that JSON has no form for, in words."""


def kind(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, Unreadable):
        return f"unreadable ({value.reason})"
    return next((name for types, name in KINDS if isinstance(value, types)), "a number")


def says(value: Any) -> bool:
    """Whether a field with this value says something. Null says nothing, and so does what files put in its stead.

    An empty text is null's other spelling where columns of several data sets were put together; so are a list and
    an object without anything in them, and NaN.
    """
    if isinstance(value, (str, bytes)):
        return bool(value.strip())
    if isinstance(value, float):
        return not math.isnan(value)
    return value is not None and not (isinstance(value, (list, dict)) and not value)


def folded(name: str) -> str:
    """A field's name as all its spellings have it: ``systemPrompt``, ``System-Prompt`` and ``system_prompt``."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def as_text(value: Any) -> str | None:
    """Text, or bytes that are UTF-8 text: some writers of Parquet do not say which columns are. None for others."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) else None


def canonical(value: Any) -> Any:
    """The value as every kind of file gives it: no null keys, keys in one order, whole numbers as integers."""
    if isinstance(value, dict):
        named = sorted(((_key(name), item) for name, item in value.items() if item is not None), key=_rank)
        return {name: canonical(item) for name, item in named}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, float) and abs(value) < EXACT and value.is_integer():
        return int(value)
    return value


def _rank(field: tuple[str, Any]) -> tuple[int, str]:
    return KEY_ORDER.get(field[0], len(KEY_ORDER)), field[0]


def _key(name: Any) -> str:
    """A key, which only a map of Arrow has in other types than text."""
    string = as_text(name)
    return string if string is not None else str(stand_in(name))


def written(value: Any) -> str:
    """A value of ``canonical`` as JSON text that is content. Raises NotJson for what only has a stand-in."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_text_only)
    except NotJson:
        raise
    except ValueError as error:
        raise NotJson("NaN or an infinity") from error


def _text_only(value: Any) -> str:
    string = as_text(value)
    if string is None:
        raise NotJson(kind(value))
    return string


def stand_in(value: Any) -> Any:
    """A value as ``extra`` can hold it.

    NaN and infinities become null; dates and times ISO 8601; bytes Base64; decimals and what else there is the
    text that Python shows.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_key(name): stand_in(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [stand_in(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Unreadable):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
