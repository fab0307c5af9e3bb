"""What every format is read into, and the checks that all formats share."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any, Literal

from curricle.curate.formats.values import NotJson, Unreadable, as_text, canonical, kind, says, stand_in, written
from curricle.schemas.chat.responses import RESPONSE_ROLE
from curricle.schemas.common.plugins import Origin, Pluggable
from curricle.schemas.inputs import MESSAGE_FIELDS

_ENCODER = json.JSONEncoder(ensure_ascii=False)

Fields = Mapping[str, Any]
Message = tuple[str, str]


class FormatError(ValueError):
    """A record that is no conversation; the text is the reason that its reject carries."""


@dataclass
class Conversation:
    """``(role, content)`` turns with roles of ``schemas.table.ROLES``, and the record's other fields.

    ``notes`` name the fields that change what such a record means and are in no turn.
    """

    messages: list[Message]
    extra: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReadingRules:
    """What a user decides of how records are read.

    ``media``: records with pictures, sound or films are refused, or their text is read without them. ``bad_answers``:
    answers that are marked as ones not to give are context, or answers like any other. ``replies``: trees of replies
    are refused, or the best-ranked reply is read at each turn, or the path to each answer.
    """

    media: Literal["refuse", "ignore"] = "refuse"
    bad_answers: Literal["context", "score"] = "context"
    replies: Literal["refuse", "best", "paths"] = "refuse"

    @property
    def chosen(self) -> dict[str, str]:
        """Those that are not as they are by themselves, for fingerprints: what is not chosen changes none."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}


@dataclass(frozen=True)
class Format(Pluggable):
    """A way to write conversations down as JSON objects.

    ``fields`` says for people what such a record has. ``matches`` looks at the names of fields, of the record
    and of its first turn, not at what is in them. ``read`` raises FormatError. ``own`` are names of fields that a
    user gave, and that stand as they are spelt.
    """

    name: str
    fields: str
    matches: Callable[[Fields], bool]
    read: Callable[[Fields], Conversation]
    own: Sequence[str] = ()
    origin: Origin | None = None
    """Set where a plug-in is loaded"""


def fields_of(record: Fields) -> str:
    """The names of a record's fields, for a message; cut, because a hostile record may have thousands."""
    names = ", ".join(repr(name)[:40] for name in list(record)[:12])
    return f"found {names}{', ...' if len(record) > 12 else ''}" if record else "it has no fields"


def first_saying(record: Fields, names: Sequence[str]) -> str | None:
    """The first of these fields that says something."""
    for name in names:
        if name in record and says(record[name]):
            return name
    return None


def text(record: Fields, name: str, where: str = "") -> str:
    """The text in a field that must be there."""
    if name not in record:
        raise FormatError(f"{where}no field {name!r}; {fields_of(record)}")
    value = record[name]
    if (string := as_text(value)) is None:
        raise FormatError(f"{where}{name!r} is {kind(value)}, not text")
    return string


def items(record: Fields, name: str, where: str = "") -> list[Any]:
    """The list in a field that must be there."""
    if name not in record:
        raise FormatError(f"{where}no field {name!r}; {fields_of(record)}")
    if not isinstance(value := record[name], list):
        raise FormatError(f"{where}{name!r} is {kind(value)}, not a list")
    return value


def as_json(value: Any, where: str) -> str:
    """A value that is content, as JSON text."""
    try:
        return written(value)
    except NotJson as error:
        raise FormatError(f"{where}holds {error}, which JSON has not") from error


def rest(record: Fields, consumed: Sequence[str]) -> dict[str, Any]:
    """The fields that were not consumed, as ``values.canonical`` writes them."""
    return canonical({name: value for name, value in record.items() if name not in consumed})


def conversation(
    messages: Sequence[Message],
    record: Fields,
    consumed: Sequence[str],
    message_fields: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
) -> Conversation:
    """The conversation, with everything of the record that was not ``consumed`` in ``extra``.

    ``message_fields`` belong to the last messages: a system turn may have been put in front of them.
    Raises FormatError if the assistant has no turn or a text cannot be written as UTF-8.
    """
    if RESPONSE_ROLE not in [role for role, _ in messages]:
        raise FormatError("no assistant turn")
    extra, remarks = {}, list(notes)
    for name, value in rest(record, consumed).items():
        if isinstance(value, Unreadable):
            remarks.append(f"the field {name!r} cannot be read and is left out: {value.reason}")
        else:
            extra[name] = value
    if any(message_fields):
        if MESSAGE_FIELDS in extra:
            raise FormatError(f"the record has a field {MESSAGE_FIELDS!r} of its own, and its messages have fields too")
        in_front = len(messages) - len(message_fields)
        extra[MESSAGE_FIELDS] = [None] * in_front + [beside or None for beside in message_fields]
    if extra or remarks or not "".join(chain.from_iterable(messages)).isascii():
        extra = canonical(stand_in(extra))
        check_characters([messages, extra, remarks])
    return Conversation(list(messages), extra, remarks)


def check_characters(value: Any, where: str = "") -> None:
    """Raises FormatError for a text in a JSON value that cannot be written as UTF-8."""
    try:
        _ENCODER.encode(value).encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise FormatError(f"{where}a lone surrogate, \\u{code:04x}, is no character") from error
