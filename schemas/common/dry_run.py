"""``--dry-run``: an option of commands that can say what they would do, and of no function beside them; and how the
figures of a sample become what is expected of the whole.
"""

import math
import resource
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, make_dataclass
from typing import Any, TypeVar

from curricle.schemas.common.config import option
from curricle.schemas.common.flags import parse
from curricle.schemas.common.wording import bytes_in_words

T = TypeVar("T")
D = TypeVar("D", bound="DryRunSettings")

NOTHING_WRITTEN = "a dry run: nothing was written; without --dry-run the same command does the work"

SECONDS = 20.0
"""How long a sample is measured, about."""
LUCK = 1.4
"""What a sample does not show: more rows are packed better, and other rows may be longer."""


@dataclass(frozen=True)
class DryRunSettings:
    """What a command is told of its dry run; a subclass has more options of it."""

    dry_run: bool = option("say what would be done, how long it takes and how much memory, and write nothing", False)

    def check(self) -> None:
        """UsageError for options that do not go together."""


def parse_with_dry_run(
    cls: type[T], arguments: Sequence[str], prog: str, description: str | None, dry_run: type[D]
) -> tuple[T, D]:
    """The settings as ``parse`` gives them, and whether and how the command is only to say what it would do."""
    options: Any = make_dataclass(cls.__name__, [], bases=(dry_run, cls), frozen=True)
    parsed: Any = parse(options, arguments, prog, description)

    def part(of: Any) -> Any:
        return of(**{item.name: getattr(parsed, item.name) for item in fields(of) if item.init})

    settings, dry = part(cls), part(dry_run)
    dry.check()
    return settings, dry


@dataclass(frozen=True)
class Interval:
    """What a number is expected to be in: from ``low`` to ``high``."""

    low: float
    high: float

    @classmethod
    def of_mean(cls, values: Sequence[float]) -> "Interval":
        """The mean of a sample of what is not negative, and twice its standard error to both sides; 0 of no value."""
        if not values:
            return cls(0, 0)
        mean = statistics.fmean(values)
        error = 2 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else mean
        return cls(max(0.0, mean - error), mean + error)

    @classmethod
    def of_parts(cls, values: Sequence[float]) -> "Interval":
        """What the least and the greatest of a few measurements may be of the whole."""
        return cls(min(values) / LUCK, max(values) * LUCK)

    def __mul__(self, factor: float) -> "Interval":
        return Interval(self.low * factor, self.high * factor)

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.low + other.low, self.high + other.high)

    @property
    def count(self) -> str:
        """As a number of things."""
        return _between(*(f"{float(f'{value:.2g}'):,.0f}" for value in (self.low, self.high)))

    @property
    def scientific(self) -> str:
        """As a number beyond counting, 1.2e+15."""
        return _between(*(f"{value:.2g}" for value in (self.low, self.high)))

    @property
    def money(self) -> str:
        """As an amount of any currency, to the hundredth where it is small."""
        return _between(*map(_money, (self.low, self.high)))

    @property
    def time(self) -> str:
        """As seconds, in the unit that a person would take."""
        return _between(*map(_time, (self.low, self.high)))


def _between(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _money(amount: float) -> str:
    return f"{amount:,.2f}" if amount < 100 else f"{float(f'{amount:.3g}'):,.0f}"


def _time(seconds: float) -> str:
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"


@dataclass(frozen=True)
class PeakMemory:
    """Bytes: the most that this process had, and that it had of its GPU, 0 where torch is not imported or has none."""

    process: int
    gpu: int

    @classmethod
    def until_now(cls) -> "PeakMemory":
        torch = sys.modules.get("torch")
        gpu = int(torch.cuda.max_memory_allocated()) if torch and torch.cuda.is_available() else 0
        return cls(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, gpu)

    def line(self, whose: str = "") -> str:
        gpu = f", and {bytes_in_words(self.gpu)} of the GPU" if self.gpu else ""
        peak = f"{bytes_in_words(self.process)}{whose}{gpu}"
        return f"memory: about {peak}, as this process had at its peak; longer rows take more"
