"""A question and its answer in two fields, with the input, history, system prompt and tools that stand beside them."""

from curricle.curate.formats import openai, sharegpt
from curricle.curate.formats.conversation import (
    Conversation,
    Fields,
    FormatError,
    Message,
    conversation,
    first_saying,
    items,
    text,
)
from curricle.curate.formats.rewriting import exchange
from curricle.curate.formats.turns import context
from curricle.curate.formats.values import as_text, says
from curricle.schemas.chat.responses import RESPONSE_ROLE

INPUTS = ("input", "context", "passage")
"""Alpaca's name, Dolly's and BoolQ's; the first that says something is the input."""


def question_and_answer(record: Fields, question_field: str, answer_field: str) -> Conversation:
    """One user turn, the question and after an empty line the input; ``history`` and the system prompt before it.

    ``extra["input"]`` keeps an input, so that a template can write it by itself.
    """
    question, answer = text(record, question_field), text(record, answer_field)
    beside = [name for name in INPUTS if name not in (question_field, answer_field)]
    field = first_saying(record, beside)
    addition = text(record, field) if field else ""
    if addition == question:
        field, addition = None, ""
    messages = _history(record)
    messages.append(("user", f"{question}\n\n{addition}" if addition else question))
    messages.append((RESPONSE_ROLE, answer))
    messages, consumed, notes = context(record, messages)
    empty = [name for name in (*beside, "history") if not says(record.get(name))]
    read = (question_field, answer_field, *([field] if field else []), *empty, *consumed)
    result = conversation(messages, record, (*read, *(["history"] if _has_history(record) else [])), notes=notes)
    if addition:
        result.extra["input"] = addition
    return result


def _has_history(record: Fields) -> bool:
    """Numbers and flags of the name are something else, such as a school subject's score."""
    return says(history := record.get("history")) and not isinstance(history, (bool, int, float))


def _history(record: Fields) -> list[Message]:
    """What was said before: pairs of texts, objects of a question and its answer, or turns."""
    messages: list[Message] = []
    for index, item in enumerate(items(record, "history") if _has_history(record) else []):
        where = f"'history' {index}: "
        sides = [as_text(side) for side in item] if isinstance(item, list) else []
        if len(sides) == 2 and None not in sides:
            messages += [("user", sides[0] or ""), (RESPONSE_ROLE, sides[1] or "")]
        elif turns := exchange(item):
            messages += [(turn["role"], text(turn, "content", where)) for turn in turns]
        elif isinstance(item, dict) and ("role" in item or "from" in item):
            read_turn = sharegpt.read_turn if "from" in item else openai.read_turn
            messages.append(read_turn(item, where)[:2])
        else:
            raise FormatError(f"{where}neither a pair of texts nor a turn")
    return messages
