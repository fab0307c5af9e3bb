"""ShareGPT: turns of ``from`` and ``value``."""

from typing import Any

from curricle.curate.formats.beside import LIST_FIELDS
from curricle.curate.formats.conversation import Conversation, Fields, Format, rest, text
from curricle.curate.formats.turns import (
    CALL_ROLES,
    Turn,
    first_turn,
    list_field,
    read_turns,
    role_of,
    turn_object,
    written_call,
)
from curricle.curate.formats.values import says


def matches(record: Fields) -> bool:
    first = first_turn(record)
    names = [name for name in first if says(first[name])] if isinstance(first, dict) else []
    if "from" in names or "value" in names:
        return True
    return "role" not in names and list_field(record) not in (None, "messages")


def read(record: Fields) -> Conversation:
    """Turns in order; ``function_call`` turns are the assistant's, ``observation`` turns the tool's."""
    return read_turns(record, list_field(record) or LIST_FIELDS[1], read_turn)


def read_turn(item: Any, where: str) -> Turn:
    turn = turn_object(item, where)
    spelling, value = text(turn, "from", where), text(turn, "value", where)
    is_call = spelling.strip().lower() in CALL_ROLES
    return Turn(
        role_of(spelling, where), written_call(value, where) if is_call else value, rest(turn, ("from", "value"))
    )


SHAREGPT = Format("sharegpt", "conversations: a list of from, value (and system, tools)", matches, read)
