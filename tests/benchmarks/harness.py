"""Work that is done in several ways, timed in turns, and how the ways compare."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROUNDS = 5

Contender = Callable[[int], float]
"""Does the work of a round (0 is the warm-up) and says what it took: seconds, or whatever else is compared."""


@dataclass(frozen=True)
class Comparison:
    """What ours and theirs took, round by round; less is better.

    ``goal``: with ``at_most`` the largest share of theirs that ours may take, and otherwise how many times as
    fast ours has to be.
    """

    row: str
    work: str
    against: str
    ours: list[float]
    theirs: list[float]
    goal: float
    at_most: bool = False
    unit: str = "s"
    note: str = ""
    ratios: list[float] = field(init=False)

    def __post_init__(self) -> None:
        pairs = zip(self.ours, self.theirs, strict=True)
        ratios = [ours / theirs if self.at_most else theirs / ours for ours, theirs in pairs]
        object.__setattr__(self, "ratios", ratios)

    @property
    def ratio(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool:
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


def timed(work: Callable[[int], object]) -> Contender:
    """A contender that takes the seconds of its work."""

    def seconds(round: int) -> float:
        began = time.perf_counter()
        work(round)
        return time.perf_counter() - began

    return seconds


def alternate(*contenders: Contender, rounds: int = ROUNDS) -> list[list[float]]:
    """What each contender took in each round. They take turns, and every other round begins with the last one."""
    durations: list[list[float]] = [[] for _ in contenders]
    for round in range(rounds + 1):
        order = range(len(contenders)) if round % 2 else range(len(contenders) - 1, -1, -1)
        for index in order:
            took = contenders[index](round)
            if round:
                durations[index].append(took)
    return durations


def write(path: Path, comparisons: Sequence[Comparison]) -> None:
    path.write_text(json.dumps([asdict(each) for each in comparisons], indent=1) + "\n")


def read(path: Path) -> list[Comparison]:
    def without_ratios(values: dict) -> dict:
        return {name: value for name, value in values.items() if name != "ratios"}

    return [Comparison(**without_ratios(values)) for values in json.loads(path.read_text())]
