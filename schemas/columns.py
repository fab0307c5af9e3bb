"""What one score column means: its unit, its direction, and the metric that made it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa
from curricle.schemas.common.errors import UserError
from curricle.schemas.fingerprint import canonical_json, differences, digest

METADATA_KEY = b"curricle"
REWARD_VERSION = 2
"""Of the rewards, which the trainer computes and `curricle reward` signs: raised with every change to a number."""

Hard = Literal["high", "low"] | None


@dataclass(frozen=True)
class ScoreColumn:
    """A column that a metric writes.

    ``hard`` says which end of the column is difficult: a curriculum sorts towards it. None means that
    the column is no difficulty (a count, a flag). ``metric``, ``version`` and ``params`` identify how
    the numbers were made, and ``rests_on`` the models and whatever else they were made from; the metric fills them in.
    """

    name: str
    type: pa.DataType
    unit: str
    description: str
    hard: Hard = None
    metric: str = ""
    version: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    rests_on: Mapping[str, Any] = field(default_factory=dict)

    def of_metric(
        self, metric: str, version: int, params: Mapping[str, Any], rests_on: Mapping[str, Any] | None = None
    ) -> "ScoreColumn":
        """The same column, signed by the metric that computes it."""
        return replace(self, metric=metric, version=version, params=dict(params), rests_on=dict(rests_on or {}))

    def resting_on(self, rests_on: Mapping[str, Any]) -> "ScoreColumn":
        """The same column, which rests on this."""
        return replace(self, rests_on=dict(rests_on))

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the numbers, as it comes back from JSON."""
        own = {"column": self.name, "metrics": {self.metric: {"version": self.version, "params": self.params}}}
        identity: dict[str, Any] = json.loads(canonical_json({**own, **self.rests_on}))
        return identity

    @property
    def fingerprint(self) -> str:
        """32 hex digits: equal where the numbers are made alike."""
        return digest(self.identity)

    def changes(self, now: "ScoreColumn") -> list[str]:
        """One line for each thing that decides the numbers and is another one now; none where both are made alike."""
        lines = differences({"type": str(self.type)}, {"type": str(now.type)}) if self.type != now.type else []
        lines += differences(self.identity, now.identity)
        if not lines and self.fingerprint != now.fingerprint:  # 1 and 1.0 are equal, and written otherwise
            lines = differences({"fingerprint": self.fingerprint}, {"fingerprint": now.fingerprint})
        return lines

    def to_field(self) -> pa.Field:
        """An Arrow field whose metadata carries everything but name and type, as JSON."""
        described = {
            "metric": self.metric,
            "version": self.version,
            "params": dict(self.params),
            "unit": self.unit,
            "hard": self.hard,
            "description": self.description,
            "rests_on": self.rests_on,
            "fingerprint": self.fingerprint,
        }
        encoded = json.dumps(described, sort_keys=True, ensure_ascii=False).encode()
        return pa.field(self.name, self.type, metadata={METADATA_KEY: encoded})

    @classmethod
    def from_field(cls, arrow: pa.Field) -> "ScoreColumn | None":
        """Read a column back; None for a field that no metric signed. UserError for a damaged description."""
        described = {"rests_on": {}, **read_metadata(arrow.metadata)}  # contract 1 wrote it into the manifest alone
        if not described.get("metric"):
            return None
        wrong = [name for name, kind in _DESCRIBED.items() if not isinstance(described.get(name), kind)]
        if not _DESCRIBED.keys() <= described.keys() or wrong or described["hard"] not in ("high", "low", None):
            raise UserError(f"the description of column {arrow.name!r} breaks the contract", remedy="score again")
        return cls(arrow.name, arrow.type, **{name: described[name] for name in _DESCRIBED})


_DESCRIBED: dict[str, type | tuple[type, ...]] = {
    "metric": str,
    "version": int,
    "params": dict,
    "rests_on": dict,
    "unit": str,
    "hard": (str, type(None)),
    "description": str,
}


def read_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """What we wrote into the metadata of a field or a file; empty if nothing. UserError if it is damaged."""
    encoded = (metadata or {}).get(METADATA_KEY, b"{}")
    try:
        value = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the metadata is not JSON: {error}", remedy="copy the table again, or score again") from error
    if not isinstance(value, dict):
        raise UserError("the metadata is no JSON object", remedy="copy the table again, or score again")
    return value
