"""What one score column means: its unit, its direction, and the metric that made it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa

METADATA_KEY = b"curricle"

Hard = Literal["high", "low"] | None


@dataclass(frozen=True)
class ScoreColumn:
    """A column that a metric writes.

    ``hard`` says which end of the column is difficult: a curriculum sorts towards it. None means that
    the column is no difficulty (a count, a flag). ``metric``, ``version`` and ``params`` identify how
    the numbers were made; the registry fills them in.
    """

    name: str
    type: pa.DataType
    unit: str
    description: str
    hard: Hard = None
    metric: str = ""
    version: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)

    def made_by(self, metric: str, version: int, params: Mapping[str, Any]) -> "ScoreColumn":
        """The same column, signed by the metric that computes it."""
        return replace(self, metric=metric, version=version, params=dict(params))

    def to_field(self) -> pa.Field:
        """An Arrow field whose metadata carries everything but name and type, as JSON."""
        described = {
            "metric": self.metric,
            "version": self.version,
            "params": dict(self.params),
            "unit": self.unit,
            "hard": self.hard,
            "description": self.description,
        }
        encoded = json.dumps(described, sort_keys=True, ensure_ascii=False).encode()
        return pa.field(self.name, self.type, metadata={METADATA_KEY: encoded})

    @classmethod
    def from_field(cls, arrow: pa.Field) -> "ScoreColumn | None":
        """Read a column back; None for a field that no metric signed."""
        encoded = (arrow.metadata or {}).get(METADATA_KEY)
        described = json.loads(encoded) if encoded else {}
        return cls(arrow.name, arrow.type, **described) if described.get("metric") else None
