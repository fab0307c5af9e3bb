"""Formats of raw instruction data, told apart by their fields and read into one kind of conversation.

In every format: a field that is null is absent where it is optional; an empty prompt or answer is a
conversation like any other; what a format does not know stays in ``extra``. Tool definitions stand in the
system turn as ``<tools>``, what the assistant calls and thinks in its own turn as ``<tool_call>`` and
``<think>``, tool results in turns of the role ``tool``. A message part that is an image or sound is refused;
a field of the record that names images is one of those that stay in ``extra``.
"""

from typing import Any

from curate.formats.alpaca import ALPACA
from curate.formats.conversation import MESSAGE_FIELDS, Conversation, Format, FormatError, Record, found, kind
from curate.formats.openai import OPENAI
from curate.formats.pairs import PAIRS, pairs
from curate.formats.sharegpt import SHAREGPT
from curate.formats.strings import STRINGS
from curate.formats.table import TABLE
from schemas.config import nearest
from schemas.errors import UsageError

__all__ = ["FORMATS", "MESSAGE_FIELDS", "Conversation", "Format", "FormatError", "named", "normalise", "recognise"]

FORMATS = {format.name: format for format in (TABLE, STRINGS, SHAREGPT, OPENAI, ALPACA, PAIRS)}
"""In order of recognition: conversations first, since they often carry a ``prompt`` beside them."""


def recognise(record: Record) -> Format | None:
    """The first format whose fields the record has.

    Fields that are null count only if nothing else is recognised: Arrow gives every record every column.
    """
    filled = {name: value for name, value in record.items() if value is not None}
    for fields in (filled, record):
        for format in FORMATS.values():
            if format.matches(fields):
                return format
    return None


def named(name: str | None, prompt_field: str | None = None, response_field: str | None = None) -> Format | None:
    """The format that a user asks for; None, to recognise each record, if nothing is asked for.

    Two fields are a format of their own. Raises UsageError for an unknown name or half a pair.
    """
    if prompt_field or response_field:
        if not (prompt_field and response_field):
            missing = "--response-field" if prompt_field else "--prompt-field"
            raise UsageError(f"{missing} is missing", remedy="give --prompt-field and --response-field together")
        if name not in (None, "pairs"):
            raise UsageError(f"--format {name} has its own fields", remedy="leave out --format, or both field flags")
        return pairs([(prompt_field, response_field)])
    if name is None:
        return None
    if name not in FORMATS:
        raise UsageError(
            f"--format is {name!r}", remedy=f"{nearest(name, FORMATS)} (formats: {', '.join(sorted(FORMATS))})"
        )
    return FORMATS[name]


def normalise(record: Any, format: Format | None = None) -> Conversation:
    """Read a record, as ``format`` or as what it looks like. Raises FormatError with the reason if it is neither."""
    if not isinstance(record, dict):
        raise FormatError(f"the record is {kind(record)}, not an object")
    format = format or recognise(record)
    if format is None:
        raise FormatError(f"no known format; {found(record)}")
    return format.read(record)
