"""What the records of a file become where they hold others, or belong together.

The first object of a file decides for all of it. A group is one record that holds others, or messages of one tree that
stand together; it has parts, and each of these is a record from then on, whose position is its number in the file.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from curricle.curate.formats import FORMATS, Format, FormatError, ReadingRules, has_fields, recognise
from curricle.curate.formats.trees import is_tree
from curricle.curate.formats.values import says
from curricle.curate.readers.nested.conversations import TREE, is_message, of_messages, paths_of
from curricle.curate.readers.nested.questions import is_article, is_paragraph, questions_of
from curricle.curate.readers.records import Record

MOST_MESSAGES = 10_000
"""Of a tree: each of its conversations has all messages that come before."""
_VALUE_BYTES = 8


class Nesting(NamedTuple):
    """How records of a file hold others. ``words`` say what is a record then.

    ``together``: messages of one tree are a group; else each record is one.
    """

    words: str
    holds: Callable[[Any], bool]
    parts: Callable[[Sequence[Record]], Iterator[Record]]
    together: bool = False

    def groups(self, records: Iterable[Record], limit: int) -> Iterator[list[Record]]:
        """The records in groups of at most ``limit`` bytes and ``MOST_MESSAGES``; what is more begins another one."""
        if not self.together:
            yield from ([record] for record in records)
            return
        group, held, tree = list[Record](), 0, ""
        for record in records:
            size = len(record.source) or size_of(record.value)
            own = _tree_of(record, tree)
            if group and (own != tree or held + size > limit or len(group) == MOST_MESSAGES):
                yield group
                group, held, own = [], 0, _tree_of(record, "")  # where a slice begins nothing is known of those before
            group.append(record)
            held, tree = held + size, own
        if group:
            yield group

    def all_parts(self, records: Iterable[Record], limit: int, first: int = 0) -> Iterator[Record]:
        """Those of all groups, in order; ``first`` is the position of the first."""
        parts = (part for group in self.groups(records, limit) for part in self.parts(group))
        return (as_part(part, position) for position, part in enumerate(parts, first))


def nesting_of(value: Any, format: Format | None, rules: ReadingRules) -> str:
    """The name in ``NESTINGS`` of how a file holds its records, whose first object this is; empty if it is a record.

    A format that is named reads the records as they stand, if it is of others, or the object has its fields.
    """
    if format is not None and (not (format.own or FORMATS.get(format.name) is format) or _reads(value, format)):
        return ""
    names = ["questions", *(name for name in NESTINGS if name.startswith(rules.replies))]
    return next((name for name in names if NESTINGS[name].holds(value)), "")


def _reads(value: Any, format: Format) -> bool:
    try:
        return has_fields(value, format)
    except FormatError:
        return False


def as_part(record: Record, position: int) -> Record:
    """The record at its own position among all parts; what stands in the file as it is says where."""
    return record._replace(position=position, where=record.where or f"record {record.position}")


def size_of(value: Any) -> int:
    """About the bytes of a value: of its texts, and some for everything."""
    size, waiting = 0, [value]
    while waiting:
        value = waiting.pop()
        size += _VALUE_BYTES + (len(value) if isinstance(value, (str, bytes)) else 0)
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
    return size


def _tree_of(record: Record, before: str) -> str:
    """What tells the trees of a file apart: their id; or, where messages do not say it, where the first one stands."""
    if record.reason is not None or not is_message(record.value):
        return before
    if says(record.value.get(TREE)):
        return str(record.value[TREE])
    return before if says(record.value.get("parent_id")) else f"at {record.position}"


def _holds_questions(value: Any) -> bool:
    """A paragraph by itself may be a record that has a conversation, too."""
    if not is_paragraph(value):
        return is_article(value)
    try:
        return recognise(value) is None
    except FormatError:
        return False


def _holds_tree(value: Any) -> bool:
    return isinstance(value, dict) and is_tree(value.get("prompt"))


def _alone(
    holds: Callable[[Any], bool], parts: Callable[[Record], Iterator[Record]], group: Sequence[Record]
) -> Iterator[Record]:
    """The parts of a group of one record; a record that holds none is the only one."""
    (record,) = group
    if record.reason is None and holds(record.value):
        yield from parts(record)
    else:
        yield record


NESTINGS = {
    "questions": Nesting(
        "each question of a paragraph", _holds_questions, partial(_alone, _holds_questions, questions_of)
    ),
    "paths of trees": Nesting(
        "each conversation of a tree of replies", _holds_tree, partial(_alone, _holds_tree, paths_of)
    ),
    "paths of messages": Nesting(
        "each conversation of a tree of replies", is_message, partial(of_messages, replies="paths"), together=True
    ),
    "best of messages": Nesting(
        "the best-ranked conversation of each tree of replies",
        is_message,
        partial(of_messages, replies="best"),
        together=True,
    ),
}
