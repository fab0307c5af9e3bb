"""Two answers to one prompt, the reference and the model's own, and what the model makes of the last token of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from curricle.schemas.chat.generation import prompt_of, reference, with_answer
from curricle.schemas.common.errors import UserError
from curricle.train.data.batching import Size, shares
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.data.table import Example, Rows, Table
from curricle.train.distributed import Processes
from curricle.train.model.student import Student
from numpy.typing import NDArray

NONE = "there is no generated answer"


class Remarks(NamedTuple):
    """Why there is no reference, no generated answer, nothing to learn; and whether a maximum length has cut either.

    The last two are how many tokens the reference and the generated answer have, as they are read.
    """

    reference: str | None
    generated: str | None
    left_out: str | None
    cut: bool
    reference_tokens: int | None
    generated_tokens: int | None


@dataclass(frozen=True)
class Pair:
    """The tokens of a conversation with either answer; a text says why there are none.

    ``prompt``: how many of the tokens come before either. ``same``: the model has answered as the reference does.
    ``cut``: an answer is longer than the maximum length.
    """

    reference: Sequence[int] | str
    generated: Sequence[int] | str
    prompt: int = 0
    same: bool = False
    cut: bool = False

    @property
    def remarks(self) -> Remarks:
        reference, generated = (side if isinstance(side, str) else None for side in (self.reference, self.generated))
        same = "the generated answer is the reference" if self.same else None
        tokens = [None if isinstance(it, str) else len(it) - self.prompt for it in (self.reference, self.generated)]
        return Remarks(reference, generated, reference or generated or same, self.cut, *tokens)


class GeneratedAnswer(NamedTuple):
    """An answer of a model. ``truncated``: it was given up at a limit, and the model did not end it."""

    text: str
    truncated: bool


class GeneratedAnswers:
    """The answers that stand in a table: a column of texts, and ``NAME_truncated`` if it is there.

    Without that column every answer is read as one that has ended.
    """

    def __init__(self, table: Table, name: str) -> None:
        self._texts, flag = table.texts(name), f"{name}_truncated"
        flagged = flag in table.columns
        self._truncated = table.numbers(flag) == 1 if flagged else np.zeros(len(table), bool)
        self.remark = None if flagged else f"no column {flag}: every answer is read as one that has ended"

    def of(self, rows: Rows) -> list[GeneratedAnswer | None]:
        """The answers of these rows; None where there is none."""
        texts = self._texts.take(pa.array(rows)).to_pylist()
        flags = self._truncated[rows].tolist()
        return [None if text is None else GeneratedAnswer(text, flag) for text, flag in zip(texts, flags, strict=True)]


def read_pairs(
    encoder: ConversationTokenizer, examples: Sequence[Example], generated: Sequence[GeneratedAnswer | None]
) -> list[Pair]:
    """The pair of each example and the answer that was generated for it, None if there is none.

    An answer that was given up is read without the token that ends a turn: nobody has said that it ends there.
    """
    pairs = []
    for example, rendered, answer in zip(examples, encoder.render(examples), generated, strict=True):
        prompt = prompt_of(example.messages, rendered)
        if isinstance(prompt, str):
            pairs.append(Pair(prompt, prompt))
        elif answer is None:
            pairs.append(Pair(rendered.ids, NONE, len(prompt), cut=bool(rendered.truncated)))
        else:
            conversation = with_answer(example.messages, answer.text)
            (other,) = encoder.render([Example(conversation, example.extra)], ended=not answer.truncated)
            lost = prompt_of(conversation, other) if answer.text.strip() else other.note
            same = answer.text.strip() == reference(example.messages).strip()
            longer = bool(rendered.truncated or other.truncated)
            pairs.append(Pair(rendered.ids, lost if isinstance(lost, str) else other.ids, len(prompt), same, longer))
    return pairs


def last_states(
    student: Student,
    pairs: Sequence[Pair],
    capacity: int,
    processes: Processes,
    between: Callable[[], None] = lambda: None,
) -> tuple[NDArray[np.float32], Size]:
    """The last hidden state of each reference and of each generated answer, NaN where there is none: (2, N, H).

    Each process reads its share. Zeros elsewhere make the one sum at the end exact. All make as many passes, and call
    ``between`` after each.
    """
    sides = [pair.reference for pair in pairs] + [pair.generated for pair in pairs]
    documents: list[Sequence[int]] = [() if isinstance(side, str) else side for side in sides]
    lengths = [len(each) for each in documents]
    states = np.zeros((len(documents), student.width), np.float32)
    with student.answering():
        for indices in shares(lengths, capacity, processes.world, False, student.alike)[processes.rank]:
            read = student.states([documents[index] for index in indices] if len(indices) else [[0]])
            if len(indices):
                states[indices] = read.numpy()
            between()
    states = processes.sum(states)
    if bad := [index for index, state in enumerate(states) if not np.isfinite(state).all()]:
        raise UserError(
            f"what the model makes of {len(bad):,} answers is not finite",
            remedy="look at the model, or lower --optimizer.lr if it is trained; fp32 overflows later than bf16",
        )
    states[[not each for each in documents]] = np.nan
    size = Size(sum(lengths), 0, sum(length * length for length in lengths))
    return states.reshape(2, len(pairs), -1), size
