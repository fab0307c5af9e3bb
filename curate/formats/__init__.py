"""Formats of raw instruction data, told apart by their fields and read into one kind of conversation.

In every format: a field that says nothing is absent where another can stand for it; an empty prompt or answer
that stands alone is a conversation like any other; what a format does not know stays in ``extra``. Tool
definitions stand in the system turn as ``<tools>``, what the assistant calls and thinks in its own turn as
``<tool_call>`` and ``<think>``, tool results in turns of the role ``tool``. Images and sound are refused, or left out
where a user asks for it, whether they are parts of a message or fields beside it. docs/formats.md lists what becomes
of each field.
"""

from collections.abc import Iterator
from typing import Any

from curricle.curate.formats.beside import LIST_FIELDS, check_record
from curricle.curate.formats.conversation import Conversation, Fields, Format, FormatError, ReadingRules, fields_of
from curricle.curate.formats.media import without_media
from curricle.curate.formats.openai import OPENAI
from curricle.curate.formats.pairs import FIELD_PAIRS, PAIRS, pairs
from curricle.curate.formats.preference import with_rejected
from curricle.curate.formats.question import ALPACA, ELSEWHERE, OUTPUTS, plain
from curricle.curate.formats.rewriting import best_replies, json_turns, rewritten
from curricle.curate.formats.sharegpt import SHAREGPT
from curricle.curate.formats.spelling import respelt
from curricle.curate.formats.strings import STRINGS
from curricle.curate.formats.table import TABLE
from curricle.curate.formats.turns import is_turns
from curricle.curate.formats.values import as_text, canonical, kind, says
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.plugins import Group, stamped
from curricle.schemas.inputs import MESSAGE_FIELDS, TRAIN

__all__ = [
    "FORMATS",
    "MESSAGE_FIELDS",
    "PLUGINS",
    "RULES",
    "Conversation",
    "Fields",
    "Format",
    "FormatError",
    "ReadingRules",
    "fits",
    "has_fields",
    "named",
    "normalise",
    "recognise",
    "record_of",
]

FORMATS = {format.name: format for format in (TABLE, STRINGS, SHAREGPT, OPENAI, ALPACA, PAIRS)}
"""In order of recognition: conversations first, since they often carry a ``prompt`` beside them."""

RULES = ReadingRules()
"""What holds where a user decides nothing."""

PLUGINS: Group[Format] = Group(
    "curricle.formats",
    "format",
    "a Format of curricle.curate.formats",
    lambda value: isinstance(value, Format),
    tuple(FORMATS),
)
"""Formats of others. They are read where they are named, and never recognised."""

VERSION = 6
"""Of what a record becomes: raised with every change to it, so that no table mixes two readings."""

_TEXTS = {"instruction", *OUTPUTS, *ELSEWHERE, *(name for pair in FIELD_PAIRS for name in pair)}


def recognise(record: Any) -> Format | None:
    """The first format whose fields the record has.

    Fields count that hold what the format reads: a column of the name may be something else, and where data sets
    were put together every record has every column. Only if nothing is recognised do names decide, so that the
    record's reject says what is wrong with them.
    """
    fields = record_of(record)
    return None if fields is None else _recognise(rewritten(respelt(fields).fields))


def record_of(value: Any) -> Fields | None:
    """The record that a value of a file is: an object, or a list of turns without one; None for anything else."""
    if isinstance(value, dict):
        return value
    return {LIST_FIELDS[0]: value} if is_turns(value) else None


def fits(record: Any, format: Format | None) -> bool:
    """Whether a record has the fields of ``format``, or of any, or is known to lack something."""
    try:
        return has_fields(record, format)
    except FormatError:
        return True


def has_fields(record: Any, format: Format | None) -> bool:
    """Whether a record has the fields of ``format``, or of any. FormatError if it is known to lack something."""
    fields = record_of(record)
    if fields is None:
        return False
    return format.matches(_of_format(fields, format)) if format else recognise(fields) is not None


def _of_format(record: Fields, format: Format) -> Fields:
    """The record with the names that a format has; whose fields a user named, or a plug-in reads, stands as it is."""
    spelt = respelt(record, format.own).fields
    return rewritten(spelt) if FORMATS.get(format.name) is format else spelt


def _recognise(record: Fields) -> Format | None:
    for fields in _narrowed(record):
        for format in FORMATS.values():
            if format.matches(fields):
                return format
    return None


def _narrowed(record: Fields) -> Iterator[Fields]:
    """The fields that hold what formats read; those that hold anything; all."""
    yield {name: value for name, value in record.items() if says(value) and _fits(name, value)}
    yield {name: value for name, value in record.items() if value is not None}
    yield record


def _fits(name: str, value: Any) -> bool:
    return is_turns(value) if name in LIST_FIELDS else name not in _TEXTS or as_text(value) is not None


def named(name: str | None, prompt_field: str | None = None, response_field: str | None = None) -> Format | None:
    """The format that a user asks for; None, to recognise each record, if nothing is asked for.

    Two fields are a format of their own. Raises UsageError for an unknown name or half a pair, and as a plug-in does.
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
    if name in FORMATS:
        return FORMATS[name]
    plugin = PLUGINS.load(name)
    return stamped(plugin.object, PLUGINS.origin(plugin))


def normalise(record: Any, format: Format | None = None, rules: ReadingRules = RULES) -> Conversation:
    """Read a record, as ``format`` or as what it looks like. Raises FormatError with the reason if it is neither."""
    if (fields := record_of(record)) is None:
        raise FormatError(f"the record is {kind(record)}, not an object")
    return (plain(fields) if format in (None, ALPACA) else None) or _by_rules(fields, format, rules)


def _by_rules(fields: Fields, format: Format | None, rules: ReadingRules) -> Conversation:
    if format is TABLE or (format is None and TABLE.matches(fields)):
        return _checked(TABLE.read(fields), rules)
    fields = best_replies(fields) if rules.replies == "best" else fields
    spelt, spellings, clash = respelt(fields, format.own if format else ())
    ours = format is None or FORMATS.get(format.name) is format
    notes: list[str] = []
    of_text: Fields = spelt
    if rules.media == "ignore":
        of_text, notes = without_media(json_turns(spelt) if ours else spelt)

    def read(record: Fields) -> Conversation:
        record = rewritten(record) if ours else record
        chosen = format or _recognise(record)
        if chosen is None:
            raise FormatError(f"no known format; {fields_of(fields)}")
        if clash:
            raise FormatError(clash)
        return chosen.read(record)

    conversation = read(of_text)
    if ours:
        conversation = with_rejected(conversation, of_text, read)
    conversation.notes += notes
    conversation = _checked(conversation, rules)
    conversation.extra = {spellings.get(name, name): value for name, value in conversation.extra.items()}
    return conversation


def _checked(conversation: Conversation, rules: ReadingRules) -> Conversation:
    """The conversation with notes on what stands beside it, and with its turns that are context marked as such."""
    extra, messages = conversation.extra, conversation.messages
    beside = extra.get(MESSAGE_FIELDS)
    of_turns = isinstance(beside, list) and len(beside) == len(messages)
    turn_fields = [each if isinstance(each, dict) else None for each in beside] if of_turns and beside else []
    notes, context = check_record(extra, messages, turn_fields, rules.bad_answers == "score")
    conversation.notes += notes
    if context:
        if MESSAGE_FIELDS in extra and not of_turns:
            raise FormatError(f"the record has a field {MESSAGE_FIELDS!r} of its own, and turns that are context")
        turn_fields = turn_fields or [None] * len(messages)
        turn_fields = [
            {**(each or {}), TRAIN: False} if index in context else each for index, each in enumerate(turn_fields)
        ]
        conversation.extra = canonical({**extra, MESSAGE_FIELDS: turn_fields})
    return conversation
