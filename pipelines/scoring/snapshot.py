"""How far a job is."""

import json
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from curricle.pipelines.scoring.meter import GPUS
from curricle.pipelines.storage import in_threads
from curricle.pipelines.tables.directory import LIVE, OutputDirectory
from curricle.schemas.common.log import duration

RECENT = 120.0
"""Seconds of work that the rate and the time left go by: not by the start-up, nor by rows long ago."""
FIGURES = ("phase", "rate", "unit", "seconds_left")


@dataclass(frozen=True)
class Standing:
    """How far a job has come. ``rows`` and ``tokens`` are those of this run, ``already`` of the runs before it.

    ``phase``: what is done before the first row is. ``rate``: ``unit`` a second, tokens where a model is asked and rows
    elsewhere; it and ``seconds_left`` are None before there is one. ``gpus``: by worker, as ``HOST-PROCESS``, what it
    has claimed.
    """

    records: int
    already: int
    rows: int
    rejects: int
    tokens: int
    phase: str | None = None
    rate: float | None = None
    unit: str = "rows"
    seconds_left: float | None = None
    gpus: Mapping[str, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        return self.already + self.rows

    def line(self) -> str:
        """The same as one line of text."""
        line = f"{self.done:,} of {self.records:,} rows, {self.detail()}"
        if self.seconds_left is not None and self.rate:
            line += f", about {duration(self.seconds_left)} left"
        return line

    def detail(self) -> str:
        rejects = f"{self.rejects:,} rejects"
        if self.rate is not None:
            return f"{self.rate:,.0f} {self.unit}/s, {rejects}"
        return f"{self.phase}, {rejects}" if self.phase else rejects

    def figures(self) -> dict[str, Any]:
        """The same for a log whose lines are JSON."""
        return {
            "records": self.records,
            "records_done": self.done,
            "rejects": self.rejects,
            "tokens": self.tokens,
            **{name: getattr(self, name) for name in FIGURES},
        }


class Pace:
    """How fast a job is of late, from what is seen of it now and then."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int, int]] = deque()

    def see(self, seconds: float, now: Standing) -> Standing:
        """The same with its rate and the time left. ``seconds``: when it was seen, by a clock that never goes back.

        The count begins when the first row or token is done: what comes before is no work of which there is more.
        """
        if not (now.rows or now.tokens):
            return now
        self._looks.append((seconds, now.rows, now.tokens))
        while len(self._looks) > 2 and seconds - self._looks[1][0] > RECENT:
            self._looks.popleft()
        began, rows, tokens = self._looks[0]
        took, by = seconds - began, (now.tokens - tokens, "tokens") if now.tokens else (now.rows - rows, "rows")
        if took <= 0 or now.rows <= rows:
            return replace(now, phase=None)
        left = (now.records - now.done) * took / (now.rows - rows)
        return replace(now, phase=None, rate=by[0] / took, unit=by[1], seconds_left=left)


def standing(directory: OutputDirectory, run: str, records: int, already: int, phase: str | None = None) -> Standing:
    """What the workers of a run have counted by now. Those of a run that was killed may still be counting too."""

    def read(name: str) -> tuple[Counter[str], str | None]:
        with suppress(FileNotFoundError, ValueError, TypeError, AttributeError):  # swept away, or damaged
            counted = json.loads(directory.storage.read(name))
            mine = counted.pop(GPUS, None)
            return Counter({key: int(value) for key, value in counted.items()}), mine
        return Counter(), None

    counts: Counter[str] = Counter()
    gpus: dict[str, str] = {}
    names = [name for name in directory.storage.names(LIVE) if name.endswith(f"-{run}.json")]
    for name, (each, mine) in zip(names, in_threads(read, names), strict=True):
        counts.update(each)
        if mine:
            gpus[name.rpartition("/")[2].removesuffix(f"-{run}.json")] = str(mine)
    rows = min(counts["rows"] + counts["in_hand"], records - already)
    return Standing(records, already, rows, counts["rejects"], counts["tokens"], phase, gpus=gpus)
