"""A batch of examples as a metric sees it, and what models answer about its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from curricle.schemas.inputs import RESPONSE_ROLE, Turn, by_response, may_hold_context, rejected
from numpy.typing import NDArray

OUT_OF_MEMORY = "out of memory for"
"""How a note begins, after the name of its column, that is about the machine and not about the row."""


@dataclass(frozen=True)
class LogLikelihood:
    """``sum``: of the log-probabilities of ``count`` tokens, in nats, at most 0. Both None, with a note, if unknown."""

    sum: float | None = None
    count: int | None = None
    note: str | None = None


@dataclass(frozen=True)
class Generated:
    """The proxy's own answer: ``text``, and of how many ``tokens``, with the one that ends it; or a note why not.

    ``truncated``: the answer did not end by itself, but was cut after that many tokens.
    """

    text: str | None = None
    tokens: int | None = None
    truncated: bool | None = None
    note: str | None = None


@dataclass(frozen=True)
class Embedded:
    """``vectors``: float32 (rows, dimensions), of length 1, NaN for a row that has none.

    ``notes``: by row number, why there is no vector, or that the text was cut.
    """

    vectors: NDArray[np.float32]
    notes: Mapping[int, str]


@dataclass(frozen=True)
class Batch:
    """What a metric gets: examples, and what models answered about them.

    ``table``: the columns ``example_id``, ``source``, ``source_position``, ``messages`` and ``extra``, a row for each
    example. ``answers``: by the name of a pass; read them with ``LOSS.of(batch)``, or ``of`` of another pass, which
    knows their type: most are lists with one item a row.
    """

    table: pa.Table
    answers: Mapping[str, Any] = field(default_factory=dict)

    def with_answers(self, answers: Mapping[str, Any]) -> "Batch":
        """The same batch with further answers, by the names of their passes."""
        return Batch(self.table, {**self.answers, **answers})

    def __len__(self) -> int:
        return self.table.num_rows

    @cached_property
    def messages(self) -> list[list[tuple[str, str]]]:
        """Each conversation as ``(role, content)`` turns."""
        turns = [*zip(self._turns.role.to_pylist(), self._turns.content.to_pylist(), strict=True)]
        return [turns[first:end] for first, end in pairwise(self._turns.offsets.tolist())]

    @cached_property
    def extra(self) -> list[str | None]:
        """The other fields of each row, JSON: see ``schemas.inputs``."""
        return self.table["extra"].to_pylist() if "extra" in self.table.column_names else [None] * len(self)

    @cached_property
    def rejected(self) -> list[list[tuple[int, list[Turn]]]]:
        """The answers of each row that were rejected, as ``schemas.inputs.rejected`` gives them."""
        return [rejected(extra) for extra in self.extra]

    @cached_property
    def prompts(self) -> list[str]:
        """What is no response: what was not written by the assistant, or is context; joined by a line break."""
        return self._texts(of_response=False)

    @cached_property
    def responses(self) -> list[str]:
        """What the assistant wrote, but for turns that are context, joined by a line break."""
        return self._texts(of_response=True)

    @cached_property
    def turns(self) -> list[list[tuple[bool, str]]]:
        """Each conversation as ``(is_response, content)``: what is not the assistant's, or context, is no response."""
        return [by_response(messages, extra) for messages, extra in zip(self.messages, self.extra, strict=True)]

    @cached_property
    def _turns(self) -> "_Turns":
        messages = self.table["messages"].combine_chunks()
        role, content = messages.flatten().flatten()
        if role.null_count or content.null_count:
            raise TypeError("a turn has no role or no content")
        return _Turns(role, content, np.concatenate([[0], np.cumsum(messages.value_lengths().to_numpy())]))

    @cached_property
    def _is_response(self) -> NDArray[np.bool_]:
        """Of every turn of every row."""
        flags = pc.equal(self._turns.role, RESPONSE_ROLE).to_numpy(zero_copy_only=False).copy()
        for row in [row for row, extra in enumerate(self.extra) if extra is not None and may_hold_context(extra)]:
            first, end = self._turns.offsets[row : row + 2]
            flags[first:end] = [is_response for is_response, _ in self.turns[row]]
        return flags

    def _texts(self, of_response: bool) -> list[str]:
        """What the responses of each row say, or its other turns."""
        wanted = self._is_response == of_response
        before = np.concatenate([[0], np.cumsum(wanted)])  # how many turns of all rows that come earlier
        offsets = pa.array(before[self._turns.offsets], pa.int32())
        texts = pa.ListArray.from_arrays(offsets, self._turns.content.filter(pa.array(wanted)))
        joined: list[str] = pc.binary_join(texts, "\n").to_pylist()
        return joined


class _Turns(NamedTuple):
    """The turns of all rows in one: role and content of each; a row has those from its offset to the next."""

    role: pa.Array
    content: pa.Array
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """What a metric returns.

    ``columns``: by name, an Arrow array of each column's type, with one value a row. ``notes``: by row number, from 0
    in the batch, the reasons for nulls, as they are to stand in the table's column ``notes``.
    """

    columns: Mapping[str, pa.Array]
    notes: Mapping[int, Sequence[str]] = field(default_factory=dict)
