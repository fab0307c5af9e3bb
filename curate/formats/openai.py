"""OpenAI chat: messages of ``role`` and ``content``, text or typed parts, with tool calls and reasoning."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from curricle.curate.formats.beside import LIST_FIELDS
from curricle.curate.formats.conversation import (
    Conversation,
    Fields,
    Format,
    FormatError,
    as_json,
    first_saying,
    items,
    rest,
    text,
)
from curricle.curate.formats.media import PARTS
from curricle.curate.formats.turns import (
    CALL_ROLES,
    Turn,
    begins_with,
    first_turn,
    list_field,
    nested,
    read_turns,
    reasoning,
    role_of,
    tool_call,
    turn_object,
    written_call,
)
from curricle.curate.formats.values import as_text, canonical, kind, says

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
TEXT_PARTS = ("text", "input_text", "output_text")
REASONING_PARTS = ("reasoning", "thinking")
CALL_PARTS = ("tool_call", "function_call")
_UNLESS = "; give --media ignore to score the text alone"
CALL_FIELDS = ("tool_calls", "function_call")
ARGUMENT_FIELDS = ("arguments", "parameters", "input")


class _Part(NamedTuple):
    """A piece of a turn's text, and whether it is a tool call, which begins and ends a line."""

    text: str
    is_call: bool = False


def matches(record: Fields) -> bool:
    first = first_turn(record)
    return (isinstance(first, dict) and "role" in first) or list_field(record) == "messages"


def read(record: Fields) -> Conversation:
    return read_turns(record, list_field(record) or LIST_FIELDS[0], read_turn)


def read_turn(item: Any, where: str) -> Turn:
    message = turn_object(item, where)
    spelling = text(message, "role", where)
    content, beside = _content(message, where)
    is_call = spelling.strip().lower() in CALL_ROLES
    return Turn(role_of(spelling, where), written_call(content, where) if is_call else content, beside)


def _content(message: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """A message's reasoning, text and tool calls as one text, and the fields that are in none of them.

    Content may be null or absent only beside a tool call.
    """
    filled = [name for name in REASONING_FIELDS if says(message.get(name))]
    thought = next((name for name in filled if not isinstance(message[name], (bool, int, float))), None)
    empty = [name for name in REASONING_FIELDS if name not in filled]
    calls = _calls(message, where)
    beside = rest(message, ("role", "content", thought or "", *empty, *CALL_FIELDS))
    read = [_call(call, where) for call in calls]
    if any(left for _, left in read):
        beside["tool_calls"] = [left for _, left in read]
    content = message.get("content")
    if isinstance(content, list):
        parts = [_part(part, f"{where}part {index}: ") for index, part in enumerate(content)]
    elif content is not None or not calls:
        parts = [_Part(text(message, "content", where))]
    else:
        parts = []
    if thought and not begins_with(_join(parts), thoughts := text(message, thought, where)):
        parts.insert(0, _Part(reasoning(thoughts)))
    parts += [_Part(tool_call(call), True) for call, _ in read]
    return _join(parts), beside


def _join(parts: list[_Part]) -> str:
    """Parts one after the other; a tool call begins and ends a line."""
    parts = [part for part in parts if part.text]
    whole = parts[0].text if parts else ""
    for before, part in pairwise(parts):
        apart = (before.is_call or part.is_call) and not whole.endswith("\n")
        whole += f"\n{part.text}" if apart else part.text
    return whole


def _part(part: Any, where: str) -> _Part:
    """The text of a typed content part, which stands in ``value`` or in a field named as its type."""
    part = turn_object(part, where)
    name = text(part, "type", where)
    if name not in (*TEXT_PARTS, *REASONING_PARTS, *CALL_PARTS):
        raise FormatError(f"{where}a part of type {name[:40]!r} is not text{_UNLESS if PARTS.fullmatch(name) else ''}")
    fields = ("value", name, "text", "content")
    field = first_saying(part, fields) or next((field for field in fields if part.get(field) is not None), "value")
    value = part.get(field)
    if name in CALL_PARTS:
        string = as_text(value)
        if string is not None:
            return _Part(written_call(string, where), True)
        return _Part(tool_call(_call(turn_object(value, where), where)[0]), True)
    string = text(part, field, where)
    return _Part(reasoning(string) if string and name in REASONING_PARTS else string)


def _calls(message: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    calls = items(message, "tool_calls", where) if says(message.get("tool_calls")) else []
    if says(message.get("function_call")):
        calls = [*calls, message["function_call"]]
    return [turn_object(call, f"{where}tool call {index}: ") for index, call in enumerate(calls)]


def _call(call: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """``{"name": ..., "arguments": ...}``, and what else the call says.

    Arguments that are JSON text, as the API gives them, are unwrapped; what is not JSON stays the text that the
    assistant wrote.
    """
    function = turn_object(call["function"], where) if says(call.get("function")) else call
    name, field = text(function, "name", where), first_saying(function, ARGUMENT_FIELDS) or "arguments"
    arguments = function.get(field)
    string = as_text(arguments)
    if string is not None and string.strip():
        arguments = nested(string, f"{where}{field!r}: ")
    elif isinstance(arguments, (dict, list)):
        arguments = canonical(arguments)
    elif says(arguments):
        raise FormatError(f"{where}{field!r} is {kind(arguments)}, neither an object nor text")
    result: dict[str, Any] = {"name": name, "arguments": arguments if says(arguments) else {}}
    left = rest(call, ("function", "name", field))
    if function is not call and (more := rest(function, ("name", field))):
        left["function"] = more
    return as_json(result, f"{where}{field!r} "), left


OPENAI = Format("openai", "messages: a list of role, content (and tools)", matches, read)
