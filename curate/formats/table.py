"""Our own tables: what was normalised before is read as it stands, so that its examples keep their ids."""

import json

from curricle.curate.formats import strict
from curricle.curate.formats.conversation import Conversation, Fields, Format, FormatError, conversation, items, text
from curricle.curate.formats.values import as_text, kind
from curricle.schemas.table import ROLES

FIELDS = ("example_id", "source", "source_position", "messages")
_FIELDS = frozenset(FIELDS)


def matches(record: Fields) -> bool:
    return record.keys() >= _FIELDS


def read(record: Fields) -> Conversation:
    turns = []
    for index, turn in enumerate(items(record, "messages")):
        role = as_text(turn.get("role")) if isinstance(turn, dict) else None
        if role not in ROLES:
            raise FormatError(f"messages {index}: no turn with one of the roles {', '.join(ROLES)}")
        turns.append((role, text(turn, "content", f"messages {index}: ")))
    return conversation(turns, _extra(record.get("extra")), ())


def _extra(written: object) -> dict[str, object]:
    if written is None:
        return {}
    try:
        string = as_text(written)
        fields = written if string is None else strict.loads(string)
    except (json.JSONDecodeError, strict.Refused) as error:
        raise FormatError(f"extra is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise FormatError(f"extra is {kind(fields)}, not a JSON object")
    return fields


TABLE = Format("table", f"the columns of a table: {', '.join(FIELDS)}", matches, read)
