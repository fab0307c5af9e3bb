"""Work that is done in several ways, timed in turns, and how the ways compare."""

import json
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROUNDS = 5
FEW = 8
"""Rows that every share has."""


class Cost(NamedTuple):
    """What a round took: seconds, or whatever else is compared, and the user and system time of all its processes."""

    seconds: float
    processor: float


class Rounds(list[float]):
    """What each round took, and what it took of the processors."""

    def __init__(self, costs: Sequence[Cost] = ()) -> None:
        super().__init__(cost.seconds for cost in costs)
        self.processor = [cost.processor for cost in costs]


@dataclass(frozen=True)
class Setting:
    """Where a row is measured, and how much of it.

    ``path``: an empty directory of its own; ``data``: public data sets; ``output``: what stays between runs, such as
    the environments of other programs; ``share``: 1, or less to see that everything runs.
    """

    path: Path
    data: Path
    output: Path
    share: float = 1.0
    rounds: int = ROUNDS

    def rows(self, count: int) -> int:
        """That many rows, or so many less as the share says, but a few."""
        return max(min(count, FEW), round(count * self.share))


Contender = Callable[[int], float | Cost]
"""Does the work of a round (0 is the warm-up) and says what it took; a Cost where a process does it that goes on."""


@dataclass(frozen=True)
class Comparison:
    """What ours and theirs took, round by round; less is better.

    ``goal``: with ``at_most`` the largest share of theirs that ours may take, and otherwise how many times as
    fast ours has to be; None where no goal is set.
    ``processor``: the same ratios in seconds of the processors, for work that other programs on the machine slow down.
    """

    row: str
    work: str
    against: str
    ours: list[float]
    theirs: list[float]
    goal: float | None
    at_most: bool = False
    unit: str = "s"
    note: str = ""
    processor: list[float] | None = None
    ratios: list[float] = field(init=False)

    def __post_init__(self) -> None:
        set_ = partial(object.__setattr__, self)
        set_("ratios", self._ratios(self.ours, self.theirs))
        if isinstance(self.ours, Rounds) and isinstance(self.theirs, Rounds):
            set_("processor", self._ratios(self.ours.processor, self.theirs.processor))
        set_("ours", [*self.ours])
        set_("theirs", [*self.theirs])

    def _ratios(self, ours: list[float], theirs: list[float]) -> list[float]:
        pairs = zip(ours, theirs, strict=True)
        return [mine / others if self.at_most else others / mine for mine, others in pairs]

    @property
    def ratio(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


@dataclass(frozen=True)
class Skipped:
    """What could not be compared here, and why."""

    row: str
    work: str
    against: str
    why: str


@dataclass(frozen=True)
class Remark:
    """What the table has no column for: a paragraph of Markdown."""

    row: str
    text: str


Finding = Comparison | Skipped | Remark


def timed(work: Callable[[int], object]) -> Contender:
    """A contender that takes the seconds of its work."""

    def seconds(round: int) -> float:
        began = time.perf_counter()
        work(round)
        return time.perf_counter() - began

    return seconds


def processor_seconds() -> float:
    """User and system time of this process and of those that it started and that ended."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Watch:
    """What passes within it."""

    def __enter__(self) -> "Watch":
        self.began, self.before = time.perf_counter(), processor_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.cost = Cost(time.perf_counter() - self.began, processor_seconds() - self.before)


class Usage(NamedTuple):
    """Of a process: the most bytes that it had, and seconds of the processor."""

    bytes: float
    seconds: float


def usage_of(process: subprocess.Popen, code: int = 0) -> Usage:
    """What a process took that ends with this code; it is waited for."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == code, f"{process.args} ended with {process.returncode}"
    return Usage(usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)


def alternate(*contenders: Contender, rounds: int = ROUNDS) -> list[Rounds]:
    """What each contender took in each round. They take turns, and every other round begins with the last one."""
    costs: list[list[Cost]] = [[] for _ in contenders]
    for round in range(rounds + 1):
        order = range(len(contenders)) if round % 2 else range(len(contenders) - 1, -1, -1)
        for index in order:
            before = processor_seconds()
            took = contenders[index](round)
            if round:
                cost = took if isinstance(took, Cost) else Cost(took, processor_seconds() - before)
                costs[index].append(cost)
    return [Rounds(each) for each in costs]


def put(path: Path, text: str) -> None:
    """Written beside its path and renamed, so that it is there whole or not."""
    beside = path.with_suffix(".tmp")
    beside.write_text(text)
    beside.replace(path)


def write(path: Path, head: Mapping[str, object], findings: Sequence[Finding]) -> None:
    """One row with what it was measured by."""
    body = [{"kind": type(each).__name__, **asdict(each)} for each in findings]
    put(path, json.dumps({**head, "findings": body}, indent=1) + "\n")


def read(path: Path) -> tuple[dict, list[Finding]]:
    """The head and the findings that ``write`` wrote."""
    return parsed(json.loads(path.read_text()))


def parsed(row: dict) -> tuple[dict, list[Finding]]:
    head = dict(row)
    kinds = {kind.__name__: kind for kind in (Comparison, Skipped, Remark)}
    findings = []
    for values in head.pop("findings"):
        given = {name: value for name, value in values.items() if name not in ("kind", "ratios")}
        findings.append(kinds[values["kind"]](**given))
    return head, findings
