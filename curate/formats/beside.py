"""Fields that change what a conversation means, and that no turn can hold: each is refused, or has a note.

What a turn can hold, such as system prompts, contexts and histories, is followed where turns are put together.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from curricle.curate.batch import RESPONSE_ROLE
from curricle.curate.formats.conversation import FormatError, Message
from curricle.curate.formats.values import as_text, says

MEDIA = (
    *("image", "images", "image_url", "image_urls", "image_path", "image_paths"),
    *("video", "videos", "audio", "audios"),
)
LABELS = ("label", "kto_tag")
"""True or false in data sets of good and bad answers; other values are classes of something."""
VERDICTS = ("accepted", "is_accepted", "correct", "is_correct", "desirable")
WEIGHTS = ("weight", "loss_weight", "loss_scale", "loss", "train", "training", "trainable")
SPANS = ("training_detail", "train_detail")
LIST_FIELDS = ("messages", "conversations", "conversation", "dialogue", "dialog")
"""Where turns are looked for, in this order."""
PARTS_OF_THE_PROMPT = ("instruction", "input", "context", "history", "documents")
ANSWERS = ("output", "response", "completion", "chosen")
MANY_ANSWERS = ("outputs", "responses", "completions", "generations")


def check_media(fields: Mapping[str, Any], where: str = "") -> None:
    """Raises FormatError for pictures, sound and films beside a text: without them it means something else."""
    for name in MEDIA:
        value = fields.get(name)
        if any(map(says, value)) if isinstance(value, list) else says(value):
            raise FormatError(
                f"{where}{name!r} belongs to the text, and only text is read; take the field away to score it alone"
            )


def check_record(fields: Mapping[str, Any], messages: Sequence[Message]) -> list[str]:
    """Notes on the fields of a record that are in none of its turns.

    Raises FormatError for media, and for an answer that is marked as one not to give.
    """
    check_media(fields)
    for name in LABELS:
        if fields.get(name) is False:
            raise FormatError(
                f"{name!r} is false: the answer is marked as one not to give; take the field away to have it scored"
            )
    notes = [
        f"the field {name!r} is {str(fields[name]).lower()}, and the answer is scored"
        for name in (*VERDICTS, *LABELS)
        if fields.get(name) in (False, 0)
    ]
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
        if any(as_text(said := _text_of(turn)) is not None and not _is_in(said, messages) for turn in turns):
            notes.append(f"the field {name!r} has other turns, and they are not read; it is kept in extra")
    return notes


def check_turn(fields: Mapping[str, Any], role: str, where: str) -> list[str]:
    """Notes on the fields of one turn. FormatError for media, and where an answer is marked as not to be learnt.

    Every turn of the assistant is scored and trained on, and a table cannot say of one that it is not.
    """
    check_media(fields, where)
    notes = []
    for name in WEIGHTS:
        value = fields.get(name)
        if value is None or (role != RESPONSE_ROLE and not value) or (role == RESPONSE_ROLE and value == 1):
            continue
        if role == RESPONSE_ROLE and not value and isinstance(value, (bool, int, float)):
            raise FormatError(
                f"{where}{name!r} is {str(value).lower()}: the turn is not to be learnt, and every turn of the "
                "assistant is; take the field away to have it scored"
            )
        turn = "an assistant's turn" if role == RESPONSE_ROLE else f"a turn of the role {role}"
        notes.append(f"the field {name!r} of {turn} is not followed")
    for name in SPANS:
        if role == RESPONSE_ROLE and says(fields.get(name)):
            raise FormatError(
                f"{where}{name!r} says which parts of the turn are to be learnt, and every turn of the assistant is "
                "scored whole; take the field away to have it scored"
            )
    if says(fields.get("tools")):
        notes.append("the field 'tools' of a turn is not followed")
    return notes


def _is_text(value: Any) -> bool:
    """Text, or lists and objects that may hold some: a number or a flag under the same name is something else."""
    return says(value) and (isinstance(value, (list, dict)) or as_text(value) is not None)


def _is_in(value: Any, messages: Sequence[Message]) -> bool:
    known = as_text(value)
    return known is not None and any(known.strip() in said for _, said in messages)


def _is_last(value: Any, messages: Sequence[Message]) -> bool:
    """Whether an answer, perhaps as a turn or at the end of a whole conversation, is the conversation's own."""
    return as_text(_text_of(value[-1] if isinstance(value, list) else value)) == messages[-1][1]


def _text_of(turn: Any) -> Any:
    """What a turn of any format says."""
    return turn.get("content", turn.get("value")) if isinstance(turn, dict) else turn
