"""Trees of replies, as OASST has them: each message may have several replies, and a conversation is one way through."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

from curricle.curate.formats.conversation import Fields
from curricle.schemas.chat.responses import RESPONSE_ROLE

T = TypeVar("T")

ROLES = {"prompter": "user", "assistant": RESPONSE_ROLE}
"""OASST's names of them, and ours."""
NO_BEST = "no answer in the tree of replies is the best: there is none, or replies are several and not all are ranked"


def is_tree(message: Any) -> TypeGuard[Fields]:
    """Whether this is a message with its replies in it."""
    return isinstance(message, Mapping) and isinstance(message.get("replies"), list) and "text" in message


def turn(message: Any) -> dict[str, Any]:
    """A message as a turn of a conversation, with its own fields beside role and content."""
    fields = message if isinstance(message, Mapping) else {}
    rest = {name: value for name, value in fields.items() if name not in ("text", "role", "replies")}
    role = fields.get("role")
    return {**rest, "role": ROLES.get(str(role), role), "content": fields.get("text")}


def depth_first(first: T, replies: Callable[[T], Sequence[T]]) -> tuple[list[T], list[int]]:
    """Everything from the first one on, each behind what it replies to, and the index of that; -1 for the first."""
    order, parents, waiting = list[T](), list[int](), [(first, -1)]
    while waiting:
        each, parent = waiting.pop()
        waiting += [(reply, len(order)) for reply in reversed(replies(each))]
        order.append(each)
        parents.append(parent)
    return order, parents


@dataclass(frozen=True)
class Path:
    """The way from a tree's first message to an answer, or to a question that has none; indices of messages.

    ``unanswered``: what people wrote in reply to it, and no answer follows.
    """

    messages: Sequence[int]
    unanswered: Sequence[int]


@dataclass(frozen=True)
class ReplyTree:
    """Messages, each behind the one that it replies to; ``parents`` has the index of that one, and -1 for the first."""

    messages: Sequence[Any]
    parents: Sequence[int]

    @classmethod
    def nested(cls, message: Any) -> "ReplyTree":
        """Of a message with its replies in it, in the order of the text."""
        return cls(*depth_first(message, _replies))

    def best(self) -> Path:
        """The way that takes the best-ranked reply at each turn, and ends with an answer.

        It ends at the last answer before replies that are several and not all ranked. Empty if there is none.
        """
        replies: list[list[int]] = [[] for _ in self.messages]
        for index, parent in enumerate(self.parents):
            if parent >= 0:
                replies[parent].append(index)
        way, at = list[int](), 0 if self.messages else None
        while at is not None:
            way.append(at)
            at = self._best(replies[at])
        if way and not self._answers(way[-1]):
            way.pop()
        return Path(way, ())

    def paths(self) -> Iterator[Path]:
        """The way to each answer, in the order of the answers, so that every message is in a path.

        What no answer follows goes with the answer before it; where there is none, with a path of its own.
        """
        leads = [self._answers(index) for index in range(len(self.messages))]  # whether it is an answer, or has one
        for index in reversed(range(len(self.messages))):
            if leads[index] and self.parents[index] >= 0:
                leads[self.parents[index]] = True
        unanswered: dict[int, list[int]] = {}
        ends = list[int]()  # the end of the path that each message goes with; -1 if it is before all of them
        for index, parent in enumerate(self.parents):
            above = ends[parent] if parent >= 0 else -1
            begins = self._answers(index) or (above < 0 and not leads[index])
            ends.append(index if begins else above)
            if begins:
                unanswered[index] = []
            elif not leads[index]:
                unanswered[above].append(index)
        for index, others in unanswered.items():
            yield Path(self._way(index), others)

    def _answers(self, index: int) -> bool:
        message = self.messages[index]
        return isinstance(message, Mapping) and ROLES.get(str(message.get("role"))) == RESPONSE_ROLE

    def _way(self, index: int) -> list[int]:
        way = [index]
        while (index := self.parents[index]) >= 0:
            way.append(index)
        return way[::-1]

    def _best(self, replies: Sequence[int]) -> int | None:
        """The reply with the lowest rank, or the only one; None where they do not say which that is."""
        messages = [self.messages[index] for index in replies]
        if not all(isinstance(message, Mapping) for message in messages):
            return None
        ranks = [_rank(message.get("rank")) for message in messages]
        ranked = None not in ranks and len({*ranks}) == len(ranks)
        if len(replies) == 1:
            return replies[0]
        return min(zip(ranks, replies, strict=True))[1] if replies and ranked else None  # type: ignore[type-var]


def _replies(message: Any) -> list[Any]:
    replies = message.get("replies") if isinstance(message, Mapping) else None
    return replies if isinstance(replies, list) else []


def _rank(value: Any) -> float | None:
    """A number, perhaps as text, as CSV has it."""
    if isinstance(value, str) and value.strip().removeprefix("-").isdecimal():
        return float(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    return value if number else None
