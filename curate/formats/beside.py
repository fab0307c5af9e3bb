"""Fields that change what a conversation means, and that no turn can hold: each is refused, or has a note.

What a turn can hold, such as system prompts, contexts and histories, is followed where turns are put together.
"""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from curricle.curate.formats.conversation import FormatError, Message
from curricle.curate.formats.values import as_text, folded, says
from curricle.schemas.chat.responses import RESPONSE_ROLE

MEDIA = re.compile(
    "(?:img|image|picture|photo|video|audio)s?(?:path|url|uri|file|filename|name|id|bytes|base64|data)?s?"
)
"""Names of fields that hold pictures, sound and films or say where they lie, as ``values.folded`` gives them."""
PLACEHOLDER = re.compile(r"<\|?(?:image|video|audio)(?:_pad|[ _]?\d+)?\|?>")
"""Where a picture belongs, in texts whose pictures lie elsewhere, or are lost."""
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
NUMBER = re.compile(r"[-+]?[0-9]{1,9}(?:\.[0-9]{0,9})?")
LIST_FIELDS = ("messages", "conversations", "conversation", "dialogue", "dialog")
"""Where turns are looked for, in this order."""
PARTS_OF_THE_PROMPT = (
    *("instruction", "input", "context", "contexts", "passage", "passages", "history"),
    *("document", "documents", "paragraph", "paragraphs", "article", "background", "knowledge"),
)
ANSWERS = ("output", "response", "completion", "chosen")
MANY_ANSWERS = ("outputs", "responses", "completions", "generations")


def check_media(fields: Mapping[str, Any], where: str = "") -> None:
    """Raises FormatError for pictures, sound and films beside a text: without them it means something else."""
    for name, value in fields.items():
        if not MEDIA.fullmatch(folded(name)):
            continue
        if any(map(says, value)) if isinstance(value, list) else says(value):
            raise FormatError(
                f"{where}{name!r} belongs to the text, and only text is read; take the field away to score it alone"
            )


def check_record(fields: Mapping[str, Any], messages: Sequence[Message]) -> list[str]:
    """Notes on the fields of a record that are in none of its turns.

    Raises FormatError for media, and for an answer that is marked as one not to give.
    """
    check_media(fields)
    notes = [*_check_verdicts(fields), *_check_learning(fields, messages), *_check_placeholders(messages)]
    for name in PARTS_OF_THE_PROMPT:
        if _is_text(value := fields.get(name)) and not _is_in(value, messages):
            notes.append(f"the field {name!r} is in no turn; it is kept in extra")
    for name in ANSWERS:
        if _is_text(value := fields.get(name)) and not _is_last(value, messages):
            notes.append(f"the field {name!r} is another answer, and is not read; it is kept in extra")
    for name in MANY_ANSWERS:
        if isinstance(value := fields.get(name), list) and len(value) > 1:
            notes.append(f"the field {name!r} has other answers, and they are not read; it is kept in extra")
    for name in LIST_FIELDS:
        turns = value if isinstance(value := fields.get(name), list) else []
        if any(as_text(thought := _text_of(turn)) is not None and not _is_in(thought, messages) for turn in turns):
            notes.append(f"the field {name!r} has other turns, and they are not read; it is kept in extra")
    return notes


def check_turn(fields: Mapping[str, Any], role: str, where: str) -> list[str]:
    """Notes on the fields of one turn. FormatError for media, and where an answer is marked as not to be learnt.

    Every turn of the assistant is scored and trained on, and a table cannot say of one that it is not.
    """
    check_media(fields, where)
    if role == RESPONSE_ROLE:
        notes = _check_verdicts(fields, where)
        for name in LEARNING:
            notes += _learnt(name, fields.get(name), "an assistant's turn", where)
        notes += _doubted_mask(fields)
    else:
        weights = (name for name in (*WEIGHTS, *SPANS) if says(fields.get(name)) and _number(fields[name], 0) != 0)
        notes = [_not_followed(name, f"a turn of the role {role}") for name in weights]
    if says(fields.get("tools")):
        notes.append("the field 'tools' of a turn is not followed")
    return notes


def _check_verdicts(fields: Mapping[str, Any], where: str = "") -> list[str]:
    """Notes on what may say that an answer is bad. FormatError for what says so."""
    notes = []
    for name in (*VERDICTS, *AGAINST, *LABELS):
        value = fields.get(name)
        word = string.strip().lower() if (string := as_text(value)) is not None else str(value).lower()
        number = _number(value, math.nan)
        is_no = number == 1 if name in AGAINST else number in (0, -1)
        if (is_no and (name not in LABELS or word in NO)) or word in BAD:
            raise _not_to_give(name, word, where)
        if is_no or word in MORE_DOUBTS:
            notes.append(f"the field {name!r} is {word}, and the answer is scored")
    for name, bad in (("chosen", False), ("rejected", True)):
        if fields.get(name) is bad:
            raise _not_to_give(name, str(bad).lower(), where)
    return notes


def _not_to_give(name: str, word: str, where: str) -> FormatError:
    return FormatError(
        f"{where}{name!r} is {word}: the answer is marked as one not to give; take the field away to have it scored"
    )


def _check_learning(fields: Mapping[str, Any], messages: Sequence[Message]) -> list[str]:
    """Notes on how much of the whole conversation is to be learnt. FormatError where that is not all of its answers.

    A list as long as the conversation, perhaps without a system turn that stood elsewhere, is of its turns.
    """
    notes = []
    for name in LEARNING:
        value = fields.get(name)
        string = as_text(value)
        if (name == "loss" and not isinstance(value, bool)) or (string and string.strip().lower() in ("user", "human")):
            continue  # the loss that somebody measured; the role that is not learnt
        turns = messages[1:] if messages and messages[0][0] == "system" else messages
        if isinstance(value, list) and len(value) in (len(messages), len(turns)):
            for (role, _), each in zip(messages[-len(value) :], value, strict=True):
                if role == RESPONSE_ROLE:
                    notes += _learnt(name, each, "an assistant's turn")
                elif name not in IGNORED and _number(each, 0) != 0:
                    notes.append(_not_followed(name, f"a turn of the role {role}"))
        else:
            notes += _learnt(name, value, "the record")
    notes += _doubted_mask(fields)
    return [*dict.fromkeys(notes)]


def _learnt(name: str, value: Any, what: str, where: str = "") -> list[str]:
    """Notes on what a field says of how much is to be learnt of something. FormatError for nothing, or a part."""
    none, all_ = (1, 0) if name in IGNORED else (0, 1)
    parts = [_number(each, math.nan) for each in value] if isinstance(value, list) else []
    number = _number(value, math.nan)
    whole = parts and all(part == all_ for part in parts)
    if not says(value) or whole or number == all_ or (name in IGNORED and all(map(math.isnan, [number, *parts]))):
        return []
    if number == none:
        raise FormatError(
            f"{where}{name!r} is {str(value).lower()}: {what} is not to be learnt, and every turn of the assistant is; "
            "take the field away to have it scored"
        )
    if isinstance(value, (list, dict)):
        raise FormatError(
            f"{where}{name!r} says which parts of {what} are to be learnt, and every turn of the assistant is scored "
            "whole; take the field away to have it scored"
        )
    return [_not_followed(name, what)]


def _doubted_mask(fields: Mapping[str, Any]) -> list[str]:
    """A note on a mask that is true: of what is learnt, or of what is hidden."""
    if _number(fields.get("mask"), 0) != 1:
        return []
    return ["the field 'mask' is true, which may mean learnt or left out, and the answer is scored"]


def _not_followed(name: str, what: str) -> str:
    return f"the field {name!r} of {what} is not followed"


def _check_placeholders(messages: Sequence[Message]) -> list[str]:
    """A note where a turn before an answer has a placeholder for a picture: whether it is one, the text cannot say."""
    matches = (PLACEHOLDER.search(content) for role, content in messages if role != RESPONSE_ROLE)
    marks = dict.fromkeys(mark.group() for mark in matches if mark)
    return [f"the text has {mark!r}, and only text is read" for mark in marks]


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
