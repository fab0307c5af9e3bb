"""A question and its answer in two fields, with what stands beside them: input, history, system prompt, tools."""

from curricle.curate.formats import openai, sharegpt
from curricle.curate.formats.conversation import (
    Conversation,
    Fields,
    Format,
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
OUTPUTS = ("output", "response")  # Dolly says context and response; a record may mix the two ways of naming
ELSEWHERE = ("completion", "answer", "chosen")
"""Where the answer may be if data sets were put together and neither output nor response says anything."""


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


def _is_alpaca(record: Fields) -> bool:
    return "instruction" in record and any(name in record for name in (*OUTPUTS, "chosen"))


def _read_alpaca(record: Fields) -> Conversation:
    present = next((name for name in OUTPUTS if record.get(name) is not None), OUTPUTS[0])
    return question_and_answer(record, "instruction", first_saying(record, (*OUTPUTS, *ELSEWHERE)) or present)


def plain(record: Fields) -> Conversation | None:
    """A record that is an instruction, perhaps an input, and an output, in characters of ASCII, and nothing else.

    It is what all rules together make of such a record, and most records are: none of them has anything to look for
    in it. None for any other record, and where a text is empty or may have a placeholder for a picture.
    """
    if not record.keys() <= _PLAIN:
        return None
    question, addition, answer = record.get("instruction"), record.get("input"), record.get("output")
    if not isinstance(question, str) or not isinstance(answer, str) or not isinstance(addition, str | None):
        return None
    if addition and not addition.isspace():
        content, extra = f"{question}\n\n{addition}", {"input": addition}
    else:
        content, extra = question, {}
    if not (content.isascii() and answer.isascii()) or "<" in content:
        return None
    if not question or question.isspace() or not answer or answer.isspace() or addition == question:
        return None
    return Conversation([("user", content), (RESPONSE_ROLE, answer)], extra)


_PLAIN = {"instruction", "input", "output"}

ALPACA = Format("alpaca", "instruction, output (and input, system, history)", _is_alpaca, _read_alpaca)
"""Dolly has other names for the same."""
