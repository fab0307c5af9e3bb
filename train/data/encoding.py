"""From rows of the table to token ids and the tokens that are scored: the response, as the table counts it."""

import math
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
    """One row as tokens. ``ids``: int64 (T,). ``scored``: positions, from 1, of the tokens whose loss counts.

    ``origin``: where ``row``, of the table that is read, stands in its files, for messages. ``notes``: why there is
    nothing to learn from, or what was cut.
    """

    row: int
    ids: NDArray[np.int64]
    scored: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    origin: int | None = None

    @property
    def file_row(self) -> int:
        """The row as a user finds it in the files of the table."""
        return self.row if self.origin is None else self.origin

    def __len__(self) -> int:
        return len(self.ids)


class ConversationTokenizer:
    """Tokens of rows of a table."""

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
        self.vocabulary: float = math.inf
        """How many tokens the model has embeddings for: a row with another one cannot be rendered for it."""

    def encode(
        self, rows: Sequence[int], examples: Sequence[Example], origins: Sequence[int] | None = None
    ) -> list[Encoded]:
        """One ``Encoded`` for each row. A row that cannot be rendered is empty: it is visited, and adds no loss.

        ``origins``: the rows of the files, where they are others.
        """
        rendered = zip(rows, origins or rows, examples, self.render(examples), strict=True)
        return [self._encoded(int(row), int(origin), it.remark, each) for row, origin, it, each in rendered]

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

    def _encoded(self, row: int, origin: int, remark: str | None, rendered: Rendered) -> Encoded:
        scored = [
            position for span in rendered.spans for position in range(*span) if position
        ]  # nothing precedes the first
        notes = [remark] if remark else []
        if rendered.note:
            notes.append(f"not rendered: {rendered.note}")
        elif not scored:
            notes.append("no response token to learn from")
        if rendered.remark:
            notes.append("the chat template leaves out or alters some turns; such answers are context")
        if rendered.truncated:
            notes.append("cut to --max-length")
        return Encoded(row, np.array(rendered.ids, np.int64), np.array(scored, np.int64), tuple(notes), origin)
