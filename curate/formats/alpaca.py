"""Alpaca: an instruction, perhaps an input, an output; Dolly's names for the same."""

from curricle.curate.formats.conversation import Conversation, Fields, Format, first_saying
from curricle.curate.formats.question import question_and_answer

OUTPUTS = ("output", "response")  # Dolly says context and response; a record may mix the two ways of naming
ELSEWHERE = ("completion", "answer", "chosen")
"""Where the answer may be if data sets were put together and neither output nor response says anything."""


def matches(record: Fields) -> bool:
    return "instruction" in record and any(name in record for name in (*OUTPUTS, "chosen"))


def read(record: Fields) -> Conversation:
    present = next((name for name in OUTPUTS if record.get(name) is not None), OUTPUTS[0])
    return question_and_answer(record, "instruction", first_saying(record, (*OUTPUTS, *ELSEWHERE)) or present)


ALPACA = Format("alpaca", "instruction, output (and input, system, history)", matches, read)
