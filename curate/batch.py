"""A batch of examples as a metric sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from schemas.rendering import RESPONSE_ROLE, Rendered


@dataclass(frozen=True)
class LogLikelihood:
    """The sum of the log-probabilities of ``count`` tokens, in nats; both None, with a note, if unknown."""

    sum: float | None = None
    count: int | None = None
    note: str | None = None


@dataclass
class Batch:
    """Examples in columns (``schemas.table.EXAMPLES``), and what the proxy said of them, if it was asked.

    The lists are as long as the table and in its order.
    """

    table: pa.Table
    rendered: Sequence[Rendered] | None = None
    conditional: Sequence[LogLikelihood] | None = None
    unconditional: Sequence[LogLikelihood] | None = None

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
