"""``--dry-run``: an option of commands that can say what they would do, and of no function beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, make_dataclass
from typing import Any, TypeVar

from curricle.schemas.common.config import option, parse

T = TypeVar("T")

NOTHING_WRITTEN = "a dry run: nothing was written; without --dry-run the same command does the work"


def parse_with_dry_run(cls: type[T], arguments: Sequence[str], prog: str, description: str | None) -> tuple[T, bool]:
    """The settings as ``parse`` gives them, and whether the command is only to say what it would do."""
    flag = option("say what would be done, how long it takes and how much memory, and write nothing", False)
    options: Any = make_dataclass(cls.__name__, [("dry_run", bool, flag)], bases=(cls,), frozen=True)
    parsed: Any = parse(options, arguments, prog, description)
    values = {item.name: getattr(parsed, item.name) for item in fields(cls) if item.init}  # type: ignore[arg-type]
    return cls(**values), parsed.dry_run


@dataclass(frozen=True)
class Interval:
    """What a number is expected to be in: from ``low`` to ``high``."""

    low: float
    high: float

    def __mul__(self, factor: float) -> "Interval":
        return Interval(self.low * factor, self.high * factor)

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.low + other.low, self.high + other.high)

    @property
    def count(self) -> str:
        """As a number of things."""
        return _between(*(f"{float(f'{value:.2g}'):,.0f}" for value in (self.low, self.high)))

    @property
    def time(self) -> str:
        """As seconds, in the unit that a person would take."""
        return _between(*map(_time, (self.low, self.high)))


def _between(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _time(seconds: float) -> str:
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"


def size(count: float) -> str:
    """Bytes, as a person reads them."""
    for unit, letter in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {letter}"
    return f"{count:.0f} bytes"
