"""A conversation as the one text that is embedded."""

from collections.abc import Sequence
from itertools import groupby

from curricle.schemas.chat.responses import RESPONSE_ROLE

FORM = "Instruction: {what was asked} Response: {what was answered}, again for each exchange; turns joined by a space"


def text_of(turns: Sequence[tuple[str, str]]) -> str:
    """``Instruction: … Response: …``, as Small2Large embeds an example (arXiv 2402.10430), for each exchange.

    There the input follows its instruction after a space; here it stands in the turn, after an empty line. An encoder
    that splits words at white space, as BERT's do, reads the same tokens. Empty if there is no text in any turn.
    An answer that is context is an answer here: a vector says what a conversation is about, not what is learnt of it.
    """
    if not any(content.strip() for _, content in turns):
        return ""
    runs = groupby(turns, key=lambda turn: turn[0] == RESPONSE_ROLE)
    return " ".join(
        f"{'Response' if answer else 'Instruction'}: {' '.join(content for _, content in run)}" for answer, run in runs
    )
