"""Conversations in trees of replies (OASST): of whole trees, and of messages that each are a record of the file."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from curricle.curate.formats.beside import LIST_FIELDS
from curricle.curate.formats.trees import NO_BEST, ROLES, ReplyTree, depth_first, turn
from curricle.curate.formats.turns import is_turns
from curricle.curate.formats.values import says
from curricle.curate.readers.records import Record, inside
from curricle.schemas.chat.responses import RESPONSE_ROLE
from curricle.schemas.inputs import TRAIN

TREE = "message_tree_id"
OF_THE_TREE = (TREE, "tree_state")
"""Fields that each message repeats."""
UNANSWERED = "unanswered"
"""The field for what people wrote in reply to an answer, and no answer follows."""


def is_message(value: Any) -> bool:
    """Whether a record is one message of a tree. Fields that are null may be absent, as the first one's parent."""
    if not isinstance(value, dict) or not says(value.get("message_id")) or "text" not in value:
        return False
    if "replies" in value or any(is_turns(value.get(name)) for name in LIST_FIELDS):
        return False
    return "parent_id" in value or TREE in value or str(value.get("role")) in ROLES


def paths_of(record: Record) -> Iterator[Record]:
    """Each conversation of a record whose ``prompt`` is a tree."""
    beside = {name: value for name, value in record.value.items() if name != "prompt"}
    conversations = _conversations(ReplyTree.nested(record.value["prompt"]), beside, "paths")
    for number, (_, conversation) in enumerate(conversations):
        yield inside(record, conversation, f"conversation {number}")


def of_messages(records: Sequence[Record], replies: Literal["best", "paths"]) -> Iterator[Record]:
    """The conversations of messages that stand together: each where its last message stands, the best where the first.

    What is no message is as it is. A message that is in no tree has the reason.
    """
    parts = {index: record for index, record in enumerate(records) if not _is_one(record)}
    trees, reasons = _trees(records, [index for index, record in enumerate(records) if _is_one(record)])
    for index, reason in reasons.items():
        reason = f"one message of a tree of replies; {reason}"
        parts[index] = inside(records[index], records[index].value, reason=reason)
    for indices, tree in trees:
        first = records[indices[0]].value
        beside = {name: first[name] for name in OF_THE_TREE if first.get(name) is not None}
        for end, conversation in _conversations(tree, beside, replies):
            index = indices[end if replies == "paths" else 0]
            if conversation["prompt"]:
                parts[index] = inside(records[index], conversation)
            else:
                parts[index] = inside(records[index], records[index].value, reason=NO_BEST)
    yield from (parts[index] for index in sorted(parts))


def _conversations(
    tree: ReplyTree, beside: dict[str, Any], replies: Literal["best", "paths"]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records of the conversations in a tree, each with the index of its last message."""
    for path in [tree.best()] if replies == "best" else tree.paths():
        turns = [turn(tree.messages[index]) for index in path.messages]
        if replies == "paths":  # an answer is to be learnt where it is the last one
            turns[:-1] = [{**each, TRAIN: False} if each["role"] == RESPONSE_ROLE else each for each in turns[:-1]]
        others = [tree.messages[index] for index in path.unanswered]
        more = {UNANSWERED: [_alone(message) for message in others]} if others else {}
        yield path.messages[-1] if turns else 0, {**beside, "prompt": turns, **more}


def _alone(message: Any) -> Any:
    return {name: it for name, it in message.items() if name != "replies"} if isinstance(message, dict) else message


def _is_one(record: Record) -> bool:
    return record.reason is None and is_message(record.value)


def _trees(
    records: Sequence[Record], messages: Sequence[int]
) -> tuple[list[tuple[list[int], ReplyTree]], dict[int, str]]:
    """The trees that these messages are, each with the indices of its messages, and why others are in none.

    Reasons name no ids: reports count rejects by reason.
    """
    reasons: dict[int, str] = {}
    by_id: dict[str, int] = {}
    for index in messages:
        name = str(records[index].value["message_id"])
        if by_id.setdefault(name, index) != index:
            reasons[index] = "another one before it has its 'message_id'"
    replies: dict[int | None, list[int]] = {}
    for index in by_id.values():
        parent = records[index].value.get("parent_id")
        replies.setdefault(by_id.get(str(parent), -1) if says(parent) else None, []).append(index)
    trees = [_tree(first, records, replies) for first in replies.get(None, ())]
    reached = {index for indices, _ in trees for index in indices}
    for index in by_id.values():
        if index not in reached:
            reasons[index] = "no way leads to it: its parent, or one above, does not stand with it"
    return trees, reasons


def _tree(
    first: int, records: Sequence[Record], replies: Mapping[int | None, Sequence[int]]
) -> tuple[list[int], ReplyTree]:
    indices, parents = depth_first(first, lambda index: replies.get(index, ()))
    values = (records[index].value for index in indices)
    messages = [{name: it for name, it in value.items() if name not in OF_THE_TREE} for value in values]
    return indices, ReplyTree(messages, parents)
