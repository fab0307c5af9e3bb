"""A batch of examples as a metric sees it, and what models answer about its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from curricle.schemas.chat.responses import RESPONSE_ROLE
from numpy.typing import NDArray


@dataclass(frozen=True)
class LogLikelihood:
    """The sum of the log-probabilities of ``count`` tokens, in nats; both None, with a note, if unknown."""

    sum: float | None = None
    count: int | None = None
    note: str | None = None


@dataclass(frozen=True)
class Generated:
    """The proxy's own answer and how many tokens it drew, the one that ends the answer too; or a note why not.

    ``truncated``: the answer was given up after so many tokens, and did not end.
    """

    text: str | None = None
    tokens: int | None = None
    truncated: bool | None = None
    note: str | None = None


@dataclass(frozen=True)
class Embedded:
    """Unit vectors of shape (rows, dimensions), NaN where there is none, and notes by row: why, or what is cut."""

    vectors: NDArray[np.float32]
    notes: Mapping[int, str]


@dataclass(frozen=True)
class Batch:
    """Examples in columns (``schemas.table.EXAMPLES``), and what passes have answered about them, by a pass' name.

    ``Pass.of`` reads the answers with their type; most are lists as long as the table, in its order.
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
        return [[(turn["role"], turn["content"]) for turn in turns] for turns in self.table["messages"].to_pylist()]

    @cached_property
    def prompts(self) -> list[str]:
        """What was not written by the assistant, turns joined by a line break."""
        return ["\n".join(text for role, text in turns if role != RESPONSE_ROLE) for turns in self.messages]

    @cached_property
    def responses(self) -> list[str]:
        """What the assistant wrote, turns joined by a line break."""
        return ["\n".join(text for role, text in turns if role == RESPONSE_ROLE) for turns in self.messages]


@dataclass(frozen=True)
class Scores:
    """What a metric returns: an array as long as the batch for each of its columns, and notes by row."""

    columns: Mapping[str, pa.Array]
    notes: Mapping[int, Sequence[str]] = field(default_factory=dict)
