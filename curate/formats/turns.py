"""What the formats with lists of turns share: where the list is, how roles are spelt, where tools go."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from curricle.curate.formats import strict
from curricle.curate.formats.beside import LIST_FIELDS
from curricle.curate.formats.conversation import (
    Conversation,
    Fields,
    FormatError,
    Message,
    as_json,
    check_characters,
    conversation,
    first_saying,
    items,
    text,
)
from curricle.curate.formats.values import as_text, canonical, kind, says
from curricle.schemas.chat.responses import RESPONSE_ROLE

SYSTEM_FIELDS = (
    *("system", "system_prompt", "system_message", "system_instruction", "system_instructions", "system_content"),
    "sys_prompt",
)
_LISTS = frozenset(LIST_FIELDS)
TOOL_FIELDS = ("tools", "functions")
ANSWER_FIELDS = ("chosen", "response", "completion", "answer", "output")
"""What may hold the answer to a conversation that ends before it."""

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


class Turn(NamedTuple):
    """One turn as read, and what it carried beside role and content."""

    role: str
    content: str
    fields: Mapping[str, Any] = {}


ReadTurn = Callable[[Any, str], Turn]
"""Reads one turn; the text says where it stands."""


def is_turns(value: Any) -> bool:
    """Whether a value is a list of turns, by its first."""
    first = value[0] if isinstance(value, list) and value else None
    return as_text(first) is not None or (
        isinstance(first, dict) and any(says(first.get(name)) for name in ("role", "from", "content", "value"))
    )


def are_objects(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    """Whether a value is a list of turns that are objects, by its first."""
    return is_turns(value) and isinstance(value[0], dict)


def list_field(record: Fields) -> str | None:
    """The field that holds the turns: the first of ``LIST_FIELDS`` that does, or that says anything, or is there."""
    if _LISTS.isdisjoint(record):
        return None
    present = [name for name in LIST_FIELDS if name in record]
    turns = next((name for name in present if is_turns(record[name])), None)
    filled = (name for name in present if record[name] is not None)
    return turns or first_saying(record, present) or next(filled, present[0])


def first_turn(record: Fields) -> Any:
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


def written_call(call: str, where: str) -> str:
    """A tool call that its author wrote as text, which is read strictly and stands as written."""
    nested(call, where)
    return tool_call(call)


def tool_call(call: str) -> str:
    """An assistant's tool call, given as JSON text, as it stands in assistant text; once, if it already does."""
    return call if _wrapped(call, "tool_call") else f"<tool_call>\n{call.strip()}\n</tool_call>"


def reasoning(thought: str) -> str:
    """An assistant's reasoning as it stands before the assistant's text; once, if it already does."""
    return thought if _wrapped(thought, "think") else f"<think>\n{thought.strip()}\n</think>\n\n"


def _wrapped(whole: str, tag: str) -> bool:
    """Whether all of a text stands in tags: what it says between them is never looked at."""
    bare = whole.strip()
    return bare.startswith(f"<{tag}>") and bare.endswith(f"</{tag}>")


def begins_with(content: str, thought: str) -> bool:
    """Whether an answer begins with this reasoning, in tags, so that it must not be put there again."""
    bare = thought.strip()
    bare = bare[len("<think>") : -len("</think>")].strip() if _wrapped(bare, "think") else bare
    inside = content.lstrip().removeprefix("<think>").lstrip()
    after = inside.removeprefix(bare).lstrip()
    return content.lstrip().startswith("<think>") and inside.startswith(bare) and after.startswith("</think>")


def read_turns(record: Fields, field: str, read_turn: ReadTurn) -> Conversation:
    """The conversation whose turns are in ``field``, with what stands beside them in the field that it was in."""
    turns = [read_turn(item, f"{field} {index}: ") for index, item in enumerate(items(record, field))]
    turns, answer = _with_answer(record, turns, read_turn)
    messages, consumed, notes = context(record, [(turn.role, turn.content) for turn in turns])
    fields = [turn.fields for turn in turns]
    return conversation(messages, record, (field, *answer, *consumed), fields, notes)


def _with_answer(record: Fields, turns: list[Turn], read_turn: ReadTurn) -> tuple[list[Turn], tuple[str, ...]]:
    """Turns that end before the answer, with the answer that stands beside them, and the field that it stood in.

    It is a text, a turn, or a list of turns, which may begin with the whole conversation again.
    """
    if not turns or turns[-1].role == RESPONSE_ROLE:
        return turns, ()
    for name in ANSWER_FIELDS:
        value = record.get(name)
        if not says(value):
            continue
        if (string := as_text(value)) is not None:
            return [*turns, Turn(RESPONSE_ROLE, string)], (name,)
        if isinstance(value, dict):
            value = [value]
        if isinstance(value, list):
            more = [read_turn(item, f"{name} {index}: ") for index, item in enumerate(value)]
            if [turn[:2] for turn in more[: len(turns)]] == [turn[:2] for turn in turns]:
                more = more[len(turns) :]
            if not more or any(turn.role == "user" for turn in more) or more[-1].role != RESPONSE_ROLE:
                raise FormatError(f"{name!r} is neither the answer to the conversation nor the conversation with it")
            return [*turns, *more], (name,)
    return turns, ()


def context(record: Fields, messages: Sequence[Message]) -> tuple[list[Message], tuple[str, ...], list[str]]:
    """The turns with the record's system prompt and tools in their system turn, which fields those were, and notes.

    A system turn that says something is stronger than a field: the field stays where it was. A system turn is put
    in front if there is none, so the result has at most one turn more, at its start.
    """
    field = first_saying(record, SYSTEM_FIELDS)
    system = text(record, field) if field else ""
    own = messages[0][1] if messages and messages[0][0] == "system" else None
    turns = list(messages if own is None else messages[1:])
    instructions, notes = own if own and own.strip() else system, []
    consumed = []
    for name in SYSTEM_FIELDS:
        if name not in record or not says(record[name]) or as_text(record[name]) == instructions:
            consumed.append(name)
        else:
            notes.append(f"the field {name!r} is not read: the conversation has another system prompt")
    tool_field = first_saying(record, TOOL_FIELDS) or TOOL_FIELDS[0]
    tools = _tools(record.get(tool_field), tool_field)
    content = "\n\n".join(part for part in (instructions, f"<tools>\n{tools}\n</tools>" if tools else "") if part)
    if content or own is not None:
        turns = [("system", content), *turns]
    return turns, (tool_field, *consumed), notes


def _tools(value: Any, name: str) -> str:
    """Tool definitions, one a line: a list of objects, or the same as JSON text, which stays as written."""
    string = as_text(value)
    if string is not None:
        return "" if not says(nested(string, f"{name!r}: ")) else string.strip()
    if isinstance(value, list):
        return "\n".join(_tool(tool, f"{name!r} {index}: ") for index, tool in enumerate(value) if tool is not None)
    if not says(value):
        return ""
    raise FormatError(f"{name!r} is {kind(value)}, neither a list nor text")


def _tool(value: Any, where: str) -> str:
    string = as_text(value)
    if string is None:
        return as_json(canonical(value), where)
    nested(string, where)
    return string


def nested(string: str, where: str) -> Any:
    """The JSON that a text holds, read as strictly as the record; the text itself if it is none."""
    try:
        value = strict.loads(string)
    except json.JSONDecodeError:
        return string.strip()
    except strict.Refused as error:
        raise FormatError(f"{where}{error}") from error
    check_characters(value, where)
    return value
