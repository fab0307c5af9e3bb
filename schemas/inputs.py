"""What ``extra`` says of a conversation: an input that a template may write by itself, turns of the assistant that are
context, and answers that were rejected.
"""

import json
from collections.abc import Mapping, Sequence

Turn = dict[str, str]

RESPONSE_ROLE = "assistant"
"""Of the turns that are learnt, where nothing says that they are context."""
MESSAGE_FIELDS = "message_fields"
"""Key in ``extra`` for what messages carried beside role and content (``name``, ``tool_call_id``, ...).

A list as long as ``messages``: an object for each message that had such fields, null for the others.
"""
TRAIN = "train"
"""Key of those fields: false where a turn of the assistant is context, and nothing is learnt from it."""
REJECTED = "rejected"
"""Key in ``extra`` for answers that were rejected: ``[{"turn": 1, "messages": [{"role": …, "content": …}, …]}, …]``.

Each is the conversation's first ``turn`` turns, and then these instead of its own.
"""


def with_input(conversation: Sequence[Turn], extra: str | Mapping[str, object] | None) -> list[Turn]:
    """The conversation with an Alpaca example's input taken out of its question again, into ``turn["input"]``.

    ``extra``: the column of the table, or the fields that it is made of. The conversation as it is where there is no
    input, or where its last question does not end with it after an empty line.
    """
    text = fields_of(extra).get("input")
    # the input belongs to the last question: what comes before it is history
    last = max((index for index, turn in enumerate(conversation) if turn["role"] == "user"), default=None)
    if last is None or not isinstance(text, str) or not text:
        return list(conversation)
    content = conversation[last]["content"]
    if not isinstance(content, str) or not content.endswith(f"\n\n{text}"):
        return list(conversation)
    apart = {**conversation[last], "content": content.removesuffix(f"\n\n{text}"), "input": text}
    return [*conversation[:last], apart, *conversation[last + 1 :]]


def answer_turns(conversation: Sequence[Turn]) -> list[int]:
    """Which turns are the assistant's, by their index; some may be context."""
    return [index for index, turn in enumerate(conversation) if turn["role"] == RESPONSE_ROLE]


def context_turns(roles: Sequence[str], extra: str | Mapping[str, object] | None) -> frozenset[int]:
    """Which turns are context, though they are the assistant's, by their index in ``messages``.

    ``roles``: of each turn. A flag of any other turn says nothing: it is context anyway.
    """
    if isinstance(extra, str) and not may_hold_context(extra):
        return frozenset()
    fields = fields_of(extra).get(MESSAGE_FIELDS)
    turns = enumerate(zip(roles, fields if isinstance(fields, list) else (), strict=False))
    return frozenset(
        index
        for index, (role, each) in turns
        if role == RESPONSE_ROLE and isinstance(each, dict) and each.get(TRAIN) is False
    )


def may_hold_context(extra: str) -> bool:
    """Whether it is worth the time to look for turns that are context in this text of the column."""
    return f'"{TRAIN}"' in extra


def by_response(turns: Sequence[tuple[str, str]], extra: str | Mapping[str, object] | None) -> list[tuple[bool, str]]:
    """``(role, content)`` turns as ``(is_response, content)``: the assistant's are responses, but for context."""
    context = context_turns([role for role, _ in turns], extra)
    return [(role == RESPONSE_ROLE and index not in context, text) for index, (role, text) in enumerate(turns)]


def rejected(extra: str | Mapping[str, object] | None) -> list[tuple[int, list[Turn]]]:
    """The answers that were rejected: after how many turns of the conversation each begins, and its turns.

    There are none where a field of the name holds something else.
    """
    if isinstance(extra, str) and f'"{REJECTED}"' not in extra:
        return []
    value = fields_of(extra).get(REJECTED)
    answers = [_answer(each) for each in value] if isinstance(value, list) else []
    return [each for each in answers if each] if all(answers) else []


def _answer(value: object) -> tuple[int, list[Turn]] | None:
    if not isinstance(value, dict) or value.keys() != {"turn", "messages"}:
        return None
    turn, messages = value["turn"], value["messages"]
    if not isinstance(turn, int) or not isinstance(messages, list) or not messages:
        return None
    if any(not isinstance(each, dict) or each.keys() != {"role", "content"} for each in messages):
        return None
    return turn, messages


def fields_of(extra: str | Mapping[str, object] | None) -> Mapping[str, object]:
    """The fields of ``extra``; none of a column that is not ours and holds no JSON object."""
    if isinstance(extra, str):
        try:
            extra = json.loads(extra)
        except (ValueError, RecursionError):
            return {}
    return extra if isinstance(extra, Mapping) else {}
