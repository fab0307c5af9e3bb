"""Alpaca: an instruction, perhaps an input, an output; Dolly's names for the same."""

from curricle.curate.formats.conversation import Conversation, Fields, Format, first_saying
from curricle.curate.formats.question import question_and_answer
from curricle.schemas.chat.responses import RESPONSE_ROLE

OUTPUTS = ("output", "response")  # Dolly says context and response; a record may mix the two ways of naming
ELSEWHERE = ("completion", "answer", "chosen")
"""Where the answer may be if data sets were put together and neither output nor response says anything."""


def matches(record: Fields) -> bool:
    return "instruction" in record and any(name in record for name in (*OUTPUTS, "chosen"))


def read(record: Fields) -> Conversation:
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

ALPACA = Format("alpaca", "instruction, output (and input, system, history)", matches, read)
