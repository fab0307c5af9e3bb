"""ShareGPT: turns of ``from`` and ``value``."""

from typing import Any

from curate.formats.conversation import (
    Conversation,
    Format,
    Message,
    Record,
    conversation,
    items,
    rest,
    text,
)
from curate.formats.turns import (
    CALL_ROLES,
    LIST_FIELDS,
    context,
    first_turn,
    list_field,
    role_of,
    tool_call,
    turn_object,
)


def matches(record: Record) -> bool:
    first = first_turn(record)
    names = first if isinstance(first, dict) else {}
    if "from" in names or "value" in names:
        return True
    return "role" not in names and list_field(record) not in (None, "messages")


def read(record: Record) -> Conversation:
    """Turns in order; ``function_call`` turns are the assistant's, ``observation`` turns the tool's."""
    field = list_field(record) or LIST_FIELDS[1]
    messages: list[Message] = []
    fields: list[dict[str, Any]] = []
    for index, item in enumerate(items(record, field)):
        where = f"{field} {index}: "
        turn = turn_object(item, where)
        spelling, value = text(turn, "from", where), text(turn, "value", where)
        call = spelling.strip().lower() in CALL_ROLES
        messages.append((role_of(spelling, where), tool_call(value) if call else value))
        fields.append(rest(turn, ("from", "value")))
    whole, consumed = context(record, messages)
    return conversation(whole, record, (field, *consumed), fields)


SHAREGPT = Format("sharegpt", "conversations: a list of from, value (and system, tools)", matches, read)
