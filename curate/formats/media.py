"""Pictures, sound and films in a record and its turns: refused, or left out where that was asked for."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from curricle.curate.formats.conversation import Fields, FormatError, Message
from curricle.curate.formats.values import folded, says
from curricle.schemas.chat.responses import RESPONSE_ROLE

MEDIA = re.compile(
    "(?:img|image|picture|photo|video|audio)s?(?:path|url|uri|file|filename|name|id|bytes|base64|data)?s?"
)
"""Names of fields that hold pictures, sound and films or say where they lie, as ``values.folded`` gives them."""
PLACEHOLDER = re.compile(r"<\|?(?:image|video|audio)(?:_pad|[ _]?\d+)?\|?>")
"""Where a picture belongs, in texts whose pictures lie elsewhere, or are lost."""
PARTS = re.compile("(?:input_)?(?:image|video|audio|img)(?:_url|_file|_path)?|file|media")
"""Types of content parts that are no text."""


def check_media(fields: Mapping[str, Any], where: str = "") -> None:
    """Raises FormatError for pictures, sound and films beside a text: without them it means something else."""
    for name, value in fields.items():
        if _is_media(name, value):
            raise FormatError(
                f"{where}{name!r} belongs to the text, and only text is read; take the field away, or give "
                "--media ignore, to score it alone"
            )


def _is_media(name: str, value: Any) -> bool:
    if not MEDIA.fullmatch(folded(name)):
        return False
    return any(map(says, value)) if isinstance(value, list) else says(value)


def check_placeholders(messages: Sequence[Message]) -> list[str]:
    """A note where a turn before an answer has a placeholder for a picture: whether it is one, the text cannot say."""
    matches = (PLACEHOLDER.search(content) for role, content in messages if role != RESPONSE_ROLE)
    marks = dict.fromkeys(mark.group() for mark in matches if mark)
    return [f"the text has {mark!r}, and only text is read" for mark in marks]


def without_media(record: Fields) -> tuple[Fields, list[str]]:
    """The record without fields and parts that hold media, in it and in lists of its turns, and notes on them."""
    notes: list[str] = []
    fields = _without(record, notes)
    for name, value in fields.items():
        if isinstance(value, list) and any(isinstance(turn, dict) for turn in value):
            fields[name] = [_turn(turn, notes) if isinstance(turn, dict) else turn for turn in value]
    return fields, [*dict.fromkeys(notes)]


def _without(fields: Fields, notes: list[str]) -> dict[str, Any]:
    names = [name for name, value in fields.items() if isinstance(name, str) and _is_media(name, value)]
    notes += [f"the field {name!r} belongs to the text, and is left out" for name in names]
    return {name: value for name, value in fields.items() if name not in names}


def _turn(turn: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    turn = _without(turn, notes)
    content = turn.get("content")
    if isinstance(content, list):
        kinds = [part.get("type") if isinstance(part, dict) else None for part in content]
        left_out = [isinstance(kind, str) and PARTS.fullmatch(kind) is not None for kind in kinds]
        notes += [f"a part of type {kind!r} is left out" for kind, out in zip(kinds, left_out, strict=True) if out]
        turn["content"] = [part for part, out in zip(content, left_out, strict=True) if not out]
    return turn
