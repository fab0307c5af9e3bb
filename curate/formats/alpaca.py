"""Alpaca: an instruction, perhaps an input, an output; Dolly's names for the same."""

from curate.formats.conversation import (
    Conversation,
    Format,
    FormatError,
    Message,
    Record,
    conversation,
    items,
    optional_text,
    text,
)

# Dolly says context and response; a record may mix the two ways of naming
INPUTS, OUTPUTS = ("input", "context"), ("output", "response")


def matches(record: Record) -> bool:
    return "instruction" in record and any(name in record for name in OUTPUTS)


def read(record: Record) -> Conversation:
    """One user turn, the instruction and after an empty line the input; ``history`` and ``system`` before it.

    ``extra["input"]`` keeps an input that is not empty, so that a template can place it by itself.
    """
    input_field = next((name for name in INPUTS if record.get(name) is not None), "input")
    output_field = next((name for name in OUTPUTS if record.get(name) is not None), "output")
    given = optional_text(record, input_field)
    prompt = text(record, "instruction")
    system = optional_text(record, "system")
    messages: list[Message] = [("system", system)] if system else []
    messages += _history(record)
    messages.append(("user", f"{prompt}\n\n{given}" if given else prompt))
    messages.append(("assistant", text(record, output_field)))
    consumed = ("instruction", input_field, output_field, "system", "history")
    made = conversation(messages, record, consumed)
    if given:
        made.extra["input"] = given
    return made


def _history(record: Record) -> list[Message]:
    if record.get("history") is None:
        return []
    messages: list[Message] = []
    for index, pair in enumerate(items(record, "history")):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(side, str) for side in pair)):
            raise FormatError(f"'history' {index}: not a pair of texts")
        messages += [("user", pair[0]), ("assistant", pair[1])]
    return messages


ALPACA = Format("alpaca", "instruction, output (and input, system, history)", matches, read)
