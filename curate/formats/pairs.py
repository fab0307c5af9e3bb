"""A prompt and a response in two fields of any name."""

from collections.abc import Sequence
from functools import partial

from curate.formats.conversation import Conversation, Format, Message, Record, conversation, optional_text, text

KNOWN = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("problem", "solution"),
)
SYSTEM_FIELDS = ("system", "system_prompt")


def pairs(fields: Sequence[tuple[str, str]] = KNOWN) -> Format:
    """The format of records with one of these pairs of fields; the first that fits is read."""
    described = "; ".join(f"{prompt}, {response}" for prompt, response in fields)
    return Format("pairs", described, partial(_matches, fields), partial(_read, fields))


def _matches(fields: Sequence[tuple[str, str]], record: Record) -> bool:
    return any(prompt in record and response in record for prompt, response in fields)


def _read(fields: Sequence[tuple[str, str]], record: Record) -> Conversation:
    present = [pair for pair in fields if _matches([pair], record)]
    filled = (pair for pair in present if all(record[name] is not None for name in pair))
    prompt, response = next(filled, (present or fields)[0])
    system_field = next((name for name in SYSTEM_FIELDS if record.get(name) is not None), "system")
    system = optional_text(record, system_field)
    messages: list[Message] = [("system", system)] if system else []
    messages += [("user", text(record, prompt)), ("assistant", text(record, response))]
    return conversation(messages, record, (prompt, response, system_field))


PAIRS = pairs()
