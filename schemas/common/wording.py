"""How numbers stand in sentences, and lists below them."""

from collections.abc import Sequence

MOST_LISTED = 10
MOST_NAMED = 8


def bytes_in_words(number: float) -> str:
    """``12 bytes``, ``5.4 MB``, ``1.6 GB``: powers of 1,000, as disks are sold and file managers count."""
    if number < 999.5:
        return f"{number:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.5:
            return f"{number:.3g} {unit}"
    return f"{number / 1000:.3g} TB"


def counted(number: int, noun: str) -> str:
    """``1 stage``, ``2,000 stages``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def listed(lines: Sequence[str], letters: int = 200) -> str:
    """A line of its own for each of the first ten, cut after so many letters, and how many more there are."""
    first = "".join(f"\n  - {line:.{letters}}" for line in lines[:MOST_LISTED])
    more = len(lines) - MOST_LISTED
    return first + (f"\n  - and {more:,} more" if more > 0 else "")


def shortened(names: Sequence[str], separator: str = ", ", most: int = MOST_NAMED, of: int | None = None) -> str:
    """The first of many names in one line, and how many more there are. ``of``: how many there are in all."""
    more = (len(names) if of is None else of) - min(most, len(names))
    return separator.join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def first_line(error: BaseException) -> str:
    """What an exception of somebody else's says, in one line; its kind, where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
