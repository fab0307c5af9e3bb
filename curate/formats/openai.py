"""OpenAI chat: messages of ``role`` and ``content``, text or typed parts, with tool calls and reasoning."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from curate.formats.conversation import (
    Conversation,
    Format,
    FormatError,
    Message,
    Record,
    conversation,
    items,
    kind,
    rest,
    text,
)
from curate.formats.turns import (
    CALL_ROLES,
    LIST_FIELDS,
    context,
    first_turn,
    list_field,
    reasoning,
    role_of,
    tool_call,
    turn_object,
)

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
TEXT_PARTS = ("text", "input_text", "output_text")
REASONING_PARTS = ("reasoning", "thinking")
CALL_PARTS = ("tool_call", "function_call")
CALL_FIELDS = ("tool_calls", "function_call")


def matches(record: Record) -> bool:
    first = first_turn(record)
    return (isinstance(first, dict) and "role" in first) or list_field(record) == "messages"


def read(record: Record) -> Conversation:
    field = list_field(record) or LIST_FIELDS[0]
    messages: list[Message] = []
    fields: list[dict[str, Any]] = []
    for index, item in enumerate(items(record, field)):
        where = f"{field} {index}: "
        message = turn_object(item, where)
        spelling = text(message, "role", where)
        content, beside = _content(message, where)
        call = spelling.strip().lower() in CALL_ROLES
        messages.append((role_of(spelling, where), tool_call(content) if call else content))
        fields.append(beside)
    whole, consumed = context(record, messages)
    return conversation(whole, record, (field, *consumed), fields)


def _content(message: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """A message's reasoning, text and tool calls as one text, and the fields that are in none of them.

    Content may be null or absent only beside a tool call.
    """
    thought = next((name for name in REASONING_FIELDS if message.get(name) is not None), "")
    calls = _calls(message, where)
    beside = rest(message, ("role", "content", thought, *CALL_FIELDS))
    left = [rest(call, ("function", "name", "arguments")) for call in calls]
    if any(left):
        beside["tool_calls"] = left
    parts = []
    if thought and (said := text(message, thought, where)):
        parts.append(reasoning(said))
    content = message.get("content")
    if isinstance(content, list):
        parts += [_part(part, f"{where}part {index}: ") for index, part in enumerate(content)]
    elif content is not None or not calls:
        parts.append(text(message, "content", where))
    parts += [tool_call(_call_text(call, where)) for call in calls]
    return _join(parts), beside


def _join(parts: list[str]) -> str:
    """Parts one after the other; a tool call begins and ends a line."""
    whole = ""
    for part in parts:
        apart = whole.endswith("</tool_call>") or part.startswith("<tool_call>")
        whole += "\n" + part if part and whole and apart and not whole.endswith("\n") else part
    return whole


def _part(part: Any, where: str) -> str:
    """The text of a typed content part, which stands in ``value`` or in a field named as its type."""
    part = turn_object(part, where)
    name = text(part, "type", where)
    if name not in (*TEXT_PARTS, *REASONING_PARTS, *CALL_PARTS):
        raise FormatError(f"{where}a part of type {name[:40]!r} is not text")
    fields = ("value", name, "text", "content")
    field = next((field for field in fields if part.get(field) is not None), "value")
    value = part.get(field)
    if name in CALL_PARTS:
        return tool_call(value if isinstance(value, str) else _call_text(turn_object(value, where), where))
    value = text(part, field, where)
    return reasoning(value) if value and name in REASONING_PARTS else value


def _calls(message: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    calls = items(message, "tool_calls", where) if message.get("tool_calls") is not None else []
    if message.get("function_call") is not None:
        calls = [*calls, message["function_call"]]
    return [turn_object(call, f"{where}tool call {index}: ") for index, call in enumerate(calls)]


def _call_text(call: Mapping[str, Any], where: str) -> str:
    """``{"name": ..., "arguments": ...}``; arguments that are JSON text, as the API gives them, are unwrapped."""
    function = turn_object(call["function"], where) if call.get("function") is not None else call
    name, arguments = text(function, "name", where), function.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):  # what is not JSON stays the text that the assistant wrote
            arguments = json.loads(arguments)
    elif not isinstance(arguments, (dict, list, type(None))):
        raise FormatError(f"{where}'arguments' is {kind(arguments)}, neither an object nor text")
    return json.dumps({"name": name, "arguments": {} if arguments is None else arguments}, ensure_ascii=False)


OPENAI = Format("openai", "messages: a list of role, content (and tools)", matches, read)
