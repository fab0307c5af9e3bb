"""Preference data: the answer that was chosen is the conversation's, and those that were rejected stand beside it."""

from collections.abc import Callable
from typing import Any

from curricle.curate.formats.beside import LIST_FIELDS
from curricle.curate.formats.conversation import Conversation, Fields, FormatError
from curricle.curate.formats.turns import are_objects, is_turns
from curricle.curate.formats.values import as_text, canonical, says
from curricle.schemas.chat.responses import RESPONSE_ROLE
from curricle.schemas.inputs import REJECTED


def with_rejected(conversation: Conversation, record: Fields, read: Callable[[Fields], Conversation]) -> Conversation:
    """The conversation with what was rejected of its record as ``schemas.inputs.rejected`` reads it.

    ``read`` reads a record: the rejected answer is what it reads where that stands in ``chosen``. Where that is no
    other answer to the same prompt, it stays as it stood, with a note.
    """
    chosen, rejected = record.get("chosen"), record.get("rejected")
    if isinstance(chosen, bool) or not says(chosen) or not says(rejected) or "chosen" in conversation.extra:
        return conversation
    alike = {name: value for name, value in record.items() if name not in LIST_FIELDS or value != chosen}
    beside: list[dict[str, Any]] = []
    for answer in _answers(rejected):
        try:
            other = read({**alike, "chosen": answer, "rejected": chosen})
        except FormatError as error:
            return _noted(conversation, f"cannot be read: {error}")
        pairs = enumerate(zip(conversation.messages, other.messages, strict=False))
        turn = next((index for index, (mine, its) in pairs if mine != its), None)
        if turn is None and len(conversation.messages) == len(other.messages):
            return _noted(conversation, "is the answer that was chosen")
        turn = min(len(conversation.messages), len(other.messages)) if turn is None else turn
        rest = other.messages[turn:]
        roles = {messages[turn][0] for messages in (conversation.messages, other.messages) if turn < len(messages)}
        if not rest or roles != {RESPONSE_ROLE} or rest[-1][0] != RESPONSE_ROLE:
            return _noted(conversation, "is no other answer to the same prompt")
        beside.append({"turn": turn, "messages": [{"role": role, "content": content} for role, content in rest]})
    conversation.extra = canonical({**conversation.extra, REJECTED: beside})
    return conversation


def _answers(rejected: Any) -> list[Any]:
    """Each answer: a text, a turn or a list of turns is one."""
    several = isinstance(rejected, list) and not are_objects(rejected)
    return rejected if several and all(as_text(each) is not None or is_turns(each) for each in rejected) else [rejected]


def _noted(conversation: Conversation, why: str) -> Conversation:
    conversation.notes.append(f"the field 'rejected' {why}; it is kept in extra as it stood")
    return conversation
