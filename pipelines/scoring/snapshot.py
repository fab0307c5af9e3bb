"""How far a job is."""

import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from curricle.pipelines.tables.directory import LIVE, OutputDirectory


@dataclass(frozen=True)
class Standing:
    """How far a job has come. ``rows`` and ``tokens`` are those of this run, ``already`` of the runs before it."""

    records: int
    already: int
    rows: int
    rejects: int
    tokens: int
    seconds: float

    @property
    def done(self) -> int:
        return self.already + self.rows

    @property
    def seconds_left(self) -> float | None:
        """At the rate of this run so far; None before there is one."""
        return (self.records - self.done) * self.seconds / self.rows if self.rows else None

    def line(self) -> str:
        """The same as one line of text."""
        line = f"{self.done:,} of {self.records:,} rows, {self.detail()}"
        if self.seconds_left:
            line += f", about {self.seconds_left / 60:.0f} min left"
        return line

    def detail(self) -> str:
        of, amount = ("tokens", self.tokens) if self.tokens else ("rows", self.rows)
        return f"{amount / max(self.seconds, 1e-9):,.0f} {of}/s, {self.rejects:,} rejects"


def standing(directory: OutputDirectory, run: str, records: int, already: int, seconds: float) -> Standing:
    """What the workers of a run have counted by now. Those of a run that was killed may still be counting too."""
    counts: Counter[str] = Counter()
    for name in directory.storage.names(LIVE):
        if not name.endswith(f"-{run}.json"):
            continue
        with suppress(FileNotFoundError, ValueError, TypeError, AttributeError):  # swept away, or damaged
            counts.update(Counter({key: int(value) for key, value in json.loads(directory.storage.read(name)).items()}))
    rows = min(counts["rows"] + counts["in_hand"], records - already)
    return Standing(records, already, rows, counts["rejects"], counts["tokens"], seconds)
