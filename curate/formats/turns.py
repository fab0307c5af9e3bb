"""What the formats with lists of turns share: where the list is, how roles are spelt, where tools go."""

import json
from collections.abc import Mapping
from typing import Any

from curate.formats.conversation import FormatError, Message, Record, kind, optional_text

LIST_FIELDS = ("messages", "conversations", "conversation", "dialogue", "dialog")
CONTEXT_FIELDS = ("system", "tools")

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "bard", "bing", "claude", "model", "bot", "chatbot", "ai"), "assistant"
    ),
    **dict.fromkeys(
        ("tool", "observation", "function_response", "tool_response", "tool_result", "function", "ipython"), "tool"
    ),
    **dict.fromkeys(("function_call", "tool_call", "tool_calls"), "assistant"),
}
CALL_ROLES = ("function_call", "tool_call", "tool_calls")
"""Roles under which an assistant's turn is all tool call."""


def list_field(record: Record) -> str | None:
    """The field that holds the turns: the first of ``LIST_FIELDS`` that is there and not null."""
    present = [name for name in LIST_FIELDS if name in record]
    return next((name for name in present if record[name] is not None), present[0] if present else None)


def first_turn(record: Record) -> Any:
    """The first turn, whatever it is; None if there is none."""
    turns = record.get(list_field(record) or "")
    return turns[0] if isinstance(turns, list) and turns else None


def turn_object(turn: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(turn, dict):
        raise FormatError(f"{where}{kind(turn)}, not an object")
    return turn


def role_of(name: str, where: str) -> str:
    """The role that a spelling stands for."""
    role = ROLES.get(name.strip().lower())
    if role is None:
        raise FormatError(f"{where}unknown role {name[:40]!r}")
    return role


def tool_call(call: str) -> str:
    """An assistant's tool call, given as JSON text, as it stands in assistant text."""
    return call if "<tool_call>" in call else f"<tool_call>\n{call.strip()}\n</tool_call>"


def reasoning(thought: str) -> str:
    """An assistant's reasoning as it stands before the assistant's text."""
    return thought if "<think>" in thought else f"<think>\n{thought.strip()}\n</think>\n\n"


def context(record: Record, messages: list[Message]) -> tuple[list[Message], tuple[str, ...]]:
    """The turns with the record's ``system`` and ``tools`` fields in their system turn, and which of them are.

    A system turn of its own is the stronger: then the field stays where it was. A system turn is put in
    front if there is none, so the result has at most one turn more, at its start.
    """
    consumed = ["tools"]
    if messages and messages[0][0] == "system":
        system, turns = messages[0][1], messages[1:]
    else:
        system, turns = optional_text(record, "system"), messages
        consumed.append("system")
    tools = _tools(record.get("tools"))
    content = "\n\n".join(part for part in (system, f"<tools>\n{tools}\n</tools>" if tools else "") if part)
    if content or len(turns) < len(messages):
        turns = [("system", content), *turns]
    return turns, tuple(consumed)


def _tools(value: Any) -> str:
    """Tool definitions, one a line: a list of objects, or the same as JSON text, which stays as written."""
    if isinstance(value, str):
        return "" if value.strip() in ("[]", "null") else value.strip()
    if isinstance(value, list):
        return "\n".join(tool if isinstance(tool, str) else json.dumps(tool, ensure_ascii=False) for tool in value)
    if value is None:
        return ""
    raise FormatError(f"'tools' is {kind(value)}, neither a list nor text")
