"""The input that a record gave beside its instruction: a part of a question that a template may write by itself."""

import json
from collections.abc import Mapping, Sequence

Turn = dict[str, str]


def with_input(conversation: Sequence[Turn], extra: str | Mapping[str, object] | None) -> list[Turn]:
    """The conversation with an Alpaca example's input taken out of its question again, into ``turn["input"]``.

    ``extra``: the column of the table, or the fields that it is made of. The conversation as it is where there is no
    input, or where its last question does not end with it after an empty line.
    """
    text = _fields(extra).get("input")
    # the input belongs to the last question: what comes before it is history
    last = max((index for index, turn in enumerate(conversation) if turn["role"] == "user"), default=None)
    if last is None or not isinstance(text, str) or not text:
        return list(conversation)
    content = conversation[last]["content"]
    if not isinstance(content, str) or not content.endswith(f"\n\n{text}"):
        return list(conversation)
    apart = {**conversation[last], "content": content.removesuffix(f"\n\n{text}"), "input": text}
    return [*conversation[:last], apart, *conversation[last + 1 :]]


def _fields(extra: str | Mapping[str, object] | None) -> Mapping[str, object]:
    """The fields of ``extra``; none of a column that is not ours and holds no JSON object."""
    if isinstance(extra, str):
        try:
            extra = json.loads(extra)
        except (ValueError, RecursionError):
            return {}
    return extra if isinstance(extra, Mapping) else {}
