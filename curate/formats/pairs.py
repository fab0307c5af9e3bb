"""A prompt and a response in two fields of any name."""

from collections.abc import Sequence
from functools import partial
from itertools import chain

from curricle.curate.formats.conversation import Conversation, Fields, Format, first_saying
from curricle.curate.formats.question import question_and_answer
from curricle.curate.formats.values import says

FIELD_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("problem", "solution"),
    ("input", "target"),
    ("inputs", "targets"),
    ("input", "output"),
    *((question, "chosen") for question in ("prompt", "question", "query", "input")),
)
"""The last ones are those of Firefly, of FLAN, and of preference data."""


def pairs(fields: Sequence[tuple[str, str]] = FIELD_PAIRS) -> Format:
    """The format of records with one of these pairs of fields; the first that fits is read."""
    described = "; ".join(f"{prompt}, {response}" for prompt, response in fields)
    own = tuple(chain.from_iterable(fields))
    return Format("pairs", described, partial(_matches, fields), partial(_read, fields), own)


def _matches(fields: Sequence[tuple[str, str]], record: Fields) -> bool:
    return any(prompt in record and response in record for prompt, response in fields)


def _read(fields: Sequence[tuple[str, str]], record: Fields) -> Conversation:
    return question_and_answer(record, *_chosen(fields, record))


def _chosen(fields: Sequence[tuple[str, str]], record: Fields) -> tuple[str, str]:
    """The first pair of which both sides say something; else the prompt that does and the answer that does."""
    present = [pair for pair in fields if _matches([pair], record)] or fields[:1]
    for pair in present:
        if all(says(record.get(name)) for name in pair):
            return pair
    prompts, responses = zip(*present, strict=True)
    filled = (pair for pair in present if all(record.get(name) is not None for name in pair))
    prompt, response = next(filled, present[0])
    return first_saying(record, prompts) or prompt, first_saying(record, responses) or response


PAIRS = pairs()
