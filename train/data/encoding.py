"""From rows of the table to token ids and the tokens that are scored: the response, as the table counts it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from curricle.schemas.chat.rendering import Rendered, Rendering, beyond
from curricle.schemas.common.errors import UsageError
from curricle.train.data.table import Example
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """One row as tokens. ``ids``: int64 (T,). ``scored``: positions, from 1, of the tokens whose loss counts."""

    row: int
    ids: NDArray[np.int64]
    scored: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


class ConversationTokenizer:
    """Tokens of rows of a table. ``notes`` counts why rows have nothing to learn from, or were cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, max_length: int) -> None:
        if not tokenizer.is_fast:
            raise UsageError("the tokenizer gives no offsets", remedy="use a model with a fast tokenizer")
        if template == "chat" and not tokenizer.chat_template:
            raise UsageError(
                "the tokenizer has no chat template", remedy="--template alpaca, or a model with a template"
            )
        self._tokenizer = tokenizer
        self._options = (template, max_length)
        self._rendering = Rendering(tokenizer, *self._options)
        self.notes: Counter[str] = Counter()
        self.vocabulary: float = math.inf
        """How many tokens the model has embeddings for: a row with another one cannot be rendered for it."""

    def encode(self, rows: Sequence[int], examples: Sequence[Example]) -> list[Encoded]:
        """One ``Encoded`` for each row. A row that cannot be rendered is empty: it is visited, and adds no loss."""
        self.notes.update(example.remark for example in examples if example.remark)
        return [self._encoded(int(row), each) for row, each in zip(rows, self.render(examples), strict=True)]

    def render(self, examples: Sequence[Example], ended: bool = True) -> list[Rendered]:
        """The conversations as the model reads them, see ``schemas.chat.rendering``.

        One that has not ``ended`` stops after what was said last, without the token that ends a turn.
        """
        rendering = self._rendering if ended else self._unended
        rows = rendering.render([each.messages for each in examples], [each.extra for each in examples])
        unknown = [beyond(row.ids, self.vocabulary) for row in rows]
        return [Rendered(note=note) if note else row for note, row in zip(unknown, rows, strict=True)]

    @cached_property
    def _unended(self) -> Rendering:
        return Rendering(self._tokenizer, *self._options, end_of_turn=False)

    def decode(self, ids: list[int]) -> str:
        """The text of an answer, without the token that ends it."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def stops(self, config: Any) -> list[int]:
        """The tokens that end a response of the model with this configuration."""
        return self._rendering.stops(config)

    def _encoded(self, row: int, rendered: Rendered) -> Encoded:
        scored = [
            position for span in rendered.spans for position in range(*span) if position
        ]  # nothing precedes the first
        if rendered.note:
            self.notes[f"not rendered: {rendered.note}"] += 1
        elif not scored:
            self.notes["no response token to learn from"] += 1
        if rendered.remark:
            self.notes["the chat template leaves out or alters some turns; such answers are context"] += 1
        if rendered.truncated:
            self.notes["cut to --max-length"] += 1
        return Encoded(row, np.array(rendered.ids, np.int64), np.array(scored, np.int64))
