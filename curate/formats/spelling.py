"""One name for every spelling of a field: ``System``, ``systemPrompt`` and ``Is-Correct`` are fields like any other.

A field whose spelling nobody expected would else be one that nobody reads, and the conversation another one.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from curricle.curate.formats.beside import (
    AGAINST,
    ANSWERS,
    LABELS,
    LEARNING,
    LIST_FIELDS,
    MANY_ANSWERS,
    PARTS_OF_THE_PROMPT,
    VERDICTS,
)
from curricle.curate.formats.conversation import Fields
from curricle.curate.formats.openai import CALL_FIELDS, REASONING_FIELDS
from curricle.curate.formats.pairs import PAIRS
from curricle.curate.formats.question import ELSEWHERE, OUTPUTS
from curricle.curate.formats.rewriting import REWRITTEN
from curricle.curate.formats.turns import ANSWER_FIELDS, SYSTEM_FIELDS, TOOL_FIELDS
from curricle.curate.formats.values import folded, says

_READ = (*REWRITTEN, *OUTPUTS, *ELSEWHERE, *PAIRS.own, *SYSTEM_FIELDS, *TOOL_FIELDS, *LIST_FIELDS, *ANSWER_FIELDS)
_CHECKED = (*VERDICTS, *AGAINST, *LABELS, *LEARNING, *PARTS_OF_THE_PROMPT, *ANSWERS, *MANY_ANSWERS, "rejected")
_OF_TURNS = ("role", "content", "from", "value", *REASONING_FIELDS, *CALL_FIELDS)
_WITH_TURNS = frozenset((*LIST_FIELDS, *ANSWER_FIELDS, "prompt", "rejected"))


def _by_spelling(names: Iterable[str]) -> dict[str, str]:
    """Each name by what all its spellings have in common, and by itself."""
    by_fold = {folded(name): name for name in names}
    return by_fold | {name: name for name in by_fold.values()}


RECORD = _by_spelling((*_READ, *_CHECKED))
TURN = _by_spelling((*_OF_TURNS, *VERDICTS, *AGAINST, *LABELS, *LEARNING, *TOOL_FIELDS, "rejected"))


class Respelt(NamedTuple):
    """A record and its turns under the names that formats know.

    ``spellings`` are how the record spelt those of its fields that it spelt otherwise. ``clash`` says where two
    spellings of one name say two things; the second then stands as it was spelt.
    """

    fields: dict[str, Any]
    spellings: dict[str, str]
    clash: str | None


def respelt(record: Fields, own: Collection[str] = ()) -> Respelt:
    """The record under known names; ``own`` stand as they are."""
    fields, spellings, clash = _respelt(record, RECORD, "", own)
    for field in sorted(_WITH_TURNS.intersection(fields).difference(own)):
        if not isinstance(value := fields[field], (list, dict)):
            continue
        turns = value if isinstance(value, list) else [value]
        read = [
            _respelt(turn, TURN, f"{field} {index}: ") if isinstance(turn, dict) else Respelt(turn, {}, None)
            for index, turn in enumerate(turns)
        ]
        fields[field] = [turn.fields for turn in read] if turns is value else read[0].fields
        clash = clash or next((turn.clash for turn in read if turn.clash), None)
    spellings.pop("input", None)  # in extra that name is ours, for templates that write an input by themselves
    return Respelt(fields, spellings, clash)


def _respelt(fields: Fields, names: Mapping[str, str], where: str, own: Collection[str] = ()) -> Respelt:
    result: dict[str, Any] = {}
    spellings: dict[str, str] = {}
    clash = None
    for spelling, value in fields.items():
        ours = isinstance(spelling, str) and spelling not in own  # a map of Arrow has keys of any type
        name = (names.get(spelling) or names.get(folded(spelling), spelling)) if ours else spelling
        if name in result and not says(value):
            continue
        if name in result and says(result[name]):
            if value != result[name]:
                clash = f"{where}{spellings.get(name, name)!r} and {spelling!r} are one field, and differ"
                result[spelling] = value
            continue
        result[name] = value
        spellings.pop(name, None)
        if name != spelling:
            spellings[name] = spelling
    return Respelt(result, spellings, clash)
