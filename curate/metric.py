"""What a metric is: a named, versioned function from a batch to columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from curricle.curate.batch import Batch, Scores
from curricle.schemas.columns import ScoreColumn


class Needs(IntEnum):
    """What a metric reads. Each level includes the ones before it and costs more."""

    TEXT = 0
    """messages only"""
    TOKENS = 1
    """``Batch.rendered``: the proxy's tokenizer"""
    LOSS = 2
    """``Batch.conditional``: a forward pass of the proxy"""
    UNCONDITIONAL_LOSS = 3
    """``Batch.unconditional``: a second forward pass, of the response alone"""


@dataclass(frozen=True)
class Metric:
    """A metric: batch in, columns out.

    ``compute`` must give a row the same numbers whatever else is in the batch (docs/design.md, law 4), null and a
    note where there is no number (law 2), and change only together with ``version`` or ``params`` (law 3).
    """

    name: str
    version: int
    columns: Sequence[ScoreColumn]
    compute: Callable[[Batch], Scores]
    needs: Needs = Needs.TEXT
    params: Mapping[str, Any] = field(default_factory=dict)
    generates: bool = False
    """``Batch.generated``: the proxy answers every prompt itself"""

    @property
    def signed_columns(self) -> list[ScoreColumn]:
        """The columns with this metric's name, version and parameters in their metadata."""
        return [column.made_by(self.name, self.version, self.params) for column in self.columns]

    def as_rendered(self, rendering: Mapping[str, str] | None) -> "Metric":
        """The same metric, signed with how conversations are rendered for it, if it reads tokens."""
        if rendering is None or (self.needs < Needs.TOKENS and not self.generates):
            return self
        return replace(self, params={**self.params, "rendering": dict(rendering)})

    def identity(self) -> dict[str, Any]:
        return {"version": self.version, "params": dict(self.params)}
