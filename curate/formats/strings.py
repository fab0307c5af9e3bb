"""A plain list of texts: the user and the assistant in turn, the user first."""

from curate.formats.conversation import Conversation, Format, FormatError, Message, Record, conversation, items, kind
from curate.formats.turns import LIST_FIELDS, context, first_turn, list_field


def matches(record: Record) -> bool:
    return isinstance(first_turn(record), str)


def read(record: Record) -> Conversation:
    field = list_field(record) or LIST_FIELDS[1]
    messages: list[Message] = []
    for index, turn in enumerate(items(record, field)):
        if not isinstance(turn, str):
            raise FormatError(f"{field} {index}: {kind(turn)}, not text")
        messages.append(("assistant" if index % 2 else "user", turn))
    messages, consumed = context(record, messages)
    return conversation(messages, record, (field, *consumed))


STRINGS = Format("strings", f"a list of texts in {' or '.join(LIST_FIELDS)}", matches, read)
