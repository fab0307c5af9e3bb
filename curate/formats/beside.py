"""Fields that change what a conversation means, and that no turn can hold: each is followed, refused, or has a note.

What a turn can hold, such as system prompts, contexts and histories, is followed where turns are put together.
"""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from curricle.curate.formats.conversation import Fields, FormatError, Message
from curricle.curate.formats.media import check_media, check_placeholders
from curricle.curate.formats.values import as_text, says
from curricle.schemas.chat.responses import RESPONSE_ROLE

VERDICTS = (
    *("kto_tag", "is_accepted", "is_acceptable", "is_correct", "is_chosen", "is_good", "is_preferred"),
    *("desirable", "is_desirable"),
)
"""True or false, as such or as 1 and 0 or -1: whether the answer is one to give."""
AGAINST = ("is_rejected", "is_bad", "is_wrong", "is_incorrect", "undesirable", "is_undesirable")
"""The same the other way round: whether the answer is one not to give."""
LABELS = ("label", "accepted", "acceptable", "correct", "preferred")
"""As verdicts in some data sets; in others a class of something, or a count."""
NO, YES = ("false", "no"), ("true", "yes")
BAD = ("bad", "rejected", "undesirable", "unacceptable")
MORE_DOUBTS = ("negative", "incorrect", "wrong")
"""An answer that is wrong, or a class that a right answer names."""
WEIGHTS = (
    *("weight", "weights", "loss_weight", "loss_weights", "loss_scale", "loss"),
    *("train", "training", "trainable", "is_trainable", "train_on_turn"),
)
SPANS = (
    *("loss_mask", "loss_masks", "mask", "masks", "train_mask", "response_mask", "assistant_masks"),
    *("training_detail", "train_detail"),
)
IGNORED = ("ignore", "ignored", "is_ignored", "ignore_loss", "no_loss", "masked", "is_masked", "skip", "exclude")
"""Weights the other way round: what is true is not to be learnt."""
LEARNING = (*WEIGHTS, *SPANS, *IGNORED)
DOUBTED = ("mask", "masks")
"""Of which some data sets say what is learnt, and others what is hidden."""
NUMBER = re.compile(r"[-+]?[0-9]{1,9}(?:\.[0-9]{0,9})?")
LIST_FIELDS = ("messages", "conversations", "conversation", "dialogue", "dialog")
"""Where turns are looked for, in this order."""
PARTS_OF_THE_PROMPT = (
    *("instruction", "input", "context", "contexts", "passage", "passages", "history"),
    *("document", "documents", "paragraph", "paragraphs", "article", "background", "knowledge"),
)
ANSWERS = ("output", "response", "completion", "chosen")
MANY_ANSWERS = ("outputs", "responses", "completions", "generations", "answers")
_OF_VERDICTS = frozenset((*VERDICTS, *AGAINST, *LABELS, "chosen", "rejected"))
_OF_LEARNING = frozenset(LEARNING)
"""Most records have none of so many names, which one look tells."""


class Checked(NamedTuple):
    """Notes on fields that are in no turn, and which turns of the assistant are context: they are not to be learnt."""

    notes: list[str]
    context: frozenset[int]


def check_record(
    fields: Fields, messages: Sequence[Message], turn_fields: Sequence[Fields | None], score_bad: bool
) -> Checked:
    """What the fields of a record and of its turns, which are in none of its texts, mean for the conversation.

    ``turn_fields``: of each turn, or none at all. ``score_bad``: answers that are marked as ones not to give are
    answers like any other. FormatError for media, and where a part of an answer is to be learnt.
    """
    check_media(fields)
    answers = frozenset(index for index, (role, _) in enumerate(messages) if role == RESPONSE_ROLE)
    notes: list[str] = []
    context: set[int] = set()
    for index, beside in enumerate(turn_fields):
        where, role = f"messages {index}: ", messages[index][0]
        check_media(beside or {}, where)
        more, is_context = _check_turn(beside or {}, role, where, score_bad)
        notes += more
        context |= {index} if is_context else set()
    more, is_bad = _check_verdicts(fields, "", score_bad)
    notes += more
    context |= answers if is_bad else set()
    more, masked = _check_learning(fields, messages)
    notes += [*more, *check_placeholders(messages)]
    context |= masked
    for name in filter(fields.__contains__, PARTS_OF_THE_PROMPT):
        if _is_text(value := fields[name]) and not _is_in(value, messages):
            notes.append(f"the field {name!r} is in no turn; it is kept in extra")
    for name in filter(fields.__contains__, ANSWERS):
        if _is_text(value := fields[name]) and not _is_last(value, messages):
            notes.append(f"the field {name!r} is another answer, and is not read; it is kept in extra")
    for name in filter(fields.__contains__, MANY_ANSWERS):
        if len(answers_in(fields[name])) > 1:
            notes.append(f"the field {name!r} has other answers, and they are not read; it is kept in extra")
    for name in filter(fields.__contains__, LIST_FIELDS):
        turns = value if isinstance(value := fields[name], list) else []
        if any(as_text(thought := _text_of(turn)) is not None and not _is_in(thought, messages) for turn in turns):
            notes.append(f"the field {name!r} has other turns, and they are not read; it is kept in extra")
    return Checked([*dict.fromkeys(notes)], frozenset(context & answers))


def answers_in(value: Any) -> list[Any]:
    """The answers in a field of ``MANY_ANSWERS``: it is the list of them, or SQuAD's object with that in ``text``."""
    many = value.get("text") if isinstance(value, dict) else value
    return many if isinstance(many, list) else []


def _check_turn(fields: Fields, role: str, where: str, score_bad: bool) -> tuple[list[str], bool]:
    """Notes on the fields of one turn, and whether it is context. FormatError where a part of it is to be learnt."""
    if role == RESPONSE_ROLE:
        notes, is_context = _check_verdicts(fields, where, score_bad)
        for name in filter(fields.__contains__, LEARNING):
            more, masked = _learnt(name, fields[name], "an assistant's turn", where)
            notes += more
            is_context |= masked
        notes += _doubted_mask(fields)
    else:
        there = filter(fields.__contains__, (*WEIGHTS, *SPANS))
        weights = (name for name in there if says(fields[name]) and _number(fields[name], 0) != 0)
        notes, is_context = [_not_followed(name, f"a turn of the role {role}") for name in weights], False
    if says(fields.get("tools")):
        notes.append("the field 'tools' of a turn is not followed")
    return notes, is_context


def _check_verdicts(fields: Fields, where: str, score_bad: bool) -> tuple[list[str], bool]:
    """Notes on what may say that an answer is bad, and whether something says so."""
    notes: list[str] = []
    if _OF_VERDICTS.isdisjoint(fields):
        return notes, False
    bad: list[tuple[str, str]] = []
    for name in filter(fields.__contains__, (*VERDICTS, *AGAINST, *LABELS)):
        value = fields[name]
        word = string.strip().lower() if (string := as_text(value)) is not None else str(value).lower()
        number = _number(value, math.nan)
        is_no = number == 1 if name in AGAINST else number in (0, -1)
        if (is_no and (name not in LABELS or word in NO)) or word in BAD:
            bad.append((name, word))
        elif is_no or word in MORE_DOUBTS:
            notes.append(f"the field {name!r} is {word}, and the answer is scored")
    bad += [(name, str(no).lower()) for name, no in (("chosen", False), ("rejected", True)) if fields.get(name) is no]
    for name, word in bad:
        follows = "and the answer is scored" if score_bad else "so the answer is one not to give: it is context"
        notes.append(f"the field {name!r} is {word}, {follows}")
    return notes, bool(bad) and not score_bad


def _check_learning(fields: Fields, messages: Sequence[Message]) -> tuple[list[str], set[int]]:
    """Notes on how much of the whole conversation is to be learnt, and which of its turns are context.

    A list as long as the conversation, perhaps without a system turn that stood elsewhere, is of its turns.
    """
    notes: list[str] = []
    context: set[int] = set()
    if _OF_LEARNING.isdisjoint(fields):
        return notes, context
    for name in filter(fields.__contains__, LEARNING):
        value = fields[name]
        string = as_text(value)
        if (name == "loss" and not isinstance(value, bool)) or (string and string.strip().lower() in ("user", "human")):
            continue  # the loss that somebody measured; the role that is not learnt
        turns = messages[1:] if messages and messages[0][0] == "system" else messages
        if isinstance(value, list) and len(value) in (len(messages), len(turns)):
            first = len(messages) - len(value)
            for index, each in enumerate(value, first):
                role = messages[index][0]
                if role == RESPONSE_ROLE:
                    more, masked = _learnt(name, each, "an assistant's turn")
                    notes += more
                    context |= {index} if masked else set()
                elif name not in IGNORED and _number(each, 0) != 0:
                    notes.append(_not_followed(name, f"a turn of the role {role}"))
        else:
            more, masked = _learnt(name, value, "the record")
            notes += more
            context |= {*range(len(messages))} if masked else set()
    notes += _doubted_mask(fields)
    return notes, context


def _learnt(name: str, value: Any, what: str, where: str = "") -> tuple[list[str], bool]:
    """Notes on what a field says of how much is to be learnt of something, and whether that is nothing.

    FormatError for a part, and for a mask of which nobody knows what it masks.
    """
    none, all_ = (1, 0) if name in IGNORED else (0, 1)
    parts = [_number(each, math.nan) for each in value] if isinstance(value, list) else []
    number = _number(value, math.nan)
    whole = parts and all(part == all_ for part in parts)
    if not says(value) or whole or number == all_ or (name in IGNORED and all(map(math.isnan, [number, *parts]))):
        return [], False
    if number == none and name not in DOUBTED:
        return [], True
    if number == none:
        raise FormatError(
            f"{where}{name!r} is {str(value).lower()}, which may mean learnt or left out; say it with 'train', true or "
            "false, or take the field away"
        )
    if isinstance(value, (list, dict)):
        raise FormatError(
            f"{where}{name!r} says which parts of {what} are to be learnt, and a turn of the assistant is scored "
            "whole, or is context; take the field away to have it scored"
        )
    return [_not_followed(name, what)], False


def _doubted_mask(fields: Fields) -> list[str]:
    """A note on a mask that is true: of what is learnt, or of what is hidden."""
    if _number(fields.get("mask"), 0) != 1:
        return []
    return ["the field 'mask' is true, which may mean learnt or left out, and the answer is scored"]


def _not_followed(name: str, what: str) -> str:
    return f"the field {name!r} of {what} is not followed"


def _number(value: Any, otherwise: float) -> Any:
    """What is a number, or true or false, which equal 1 and 0, or the same as text."""
    if isinstance(value, (bool, int, float, Decimal)):
        return value
    word = string.strip().lower() if (string := as_text(value)) is not None else ""
    if word in NO or word in YES:
        return word in YES
    return float(word) if NUMBER.fullmatch(word) else otherwise


def _is_text(value: Any) -> bool:
    """Text, or lists and objects that may hold some: a number or a flag under the same name is something else."""
    return says(value) and (isinstance(value, (list, dict)) or as_text(value) is not None)


def _is_in(value: Any, messages: Sequence[Message]) -> bool:
    string = as_text(value)
    return string is not None and any(string.strip() in content for _, content in messages)


def _is_last(value: Any, messages: Sequence[Message]) -> bool:
    """Whether an answer, perhaps as a turn or at the end of a whole conversation, is the conversation's own."""
    return as_text(_text_of(value[-1] if isinstance(value, list) else value)) == messages[-1][1]


def _text_of(turn: Any) -> Any:
    """What a turn of any format says."""
    return turn.get("content", turn.get("value")) if isinstance(turn, dict) else turn
