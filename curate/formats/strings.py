"""A plain list of texts: the user and the assistant in turn, the user first."""

from itertools import cycle
from typing import Any

from curricle.curate.formats.beside import LIST_FIELDS
from curricle.curate.formats.conversation import Conversation, Fields, Format, FormatError
from curricle.curate.formats.turns import Turn, first_turn, list_field, read_turns
from curricle.curate.formats.values import as_text, kind


def matches(record: Fields) -> bool:
    return as_text(first_turn(record)) is not None


def read(record: Fields) -> Conversation:
    roles = cycle(("user", "assistant"))

    def read_turn(item: Any, where: str) -> Turn:
        if (string := as_text(item)) is None:
            raise FormatError(f"{where}{kind(item)}, not text")
        return Turn(next(roles), string)

    return read_turns(record, list_field(record) or LIST_FIELDS[1], read_turn)


STRINGS = Format("strings", f"a list of texts in {' or '.join(LIST_FIELDS)}", matches, read)
