"""Whose turn it is, so that shares hold over every stretch of the order: no draw, whose luck would be in every batch.

Three domains with shares of 1/2, 1/3 and 1/6 take turns as 0 1 0 2 1 0, and so on: among the first n rows each
has n times its share, within one row.
"""

from collections.abc import Sequence
from fractions import Fraction

UNITS = 10**9
"""Shares are whole units of so many, so that an order is the same on every machine."""


def to_units(shares: Sequence[float]) -> list[int]:
    """Shares in proportion to these numbers, in whole units that sum to ``UNITS``; what is above 0 gets 1 at least."""
    total = sum(map(Fraction, shares))
    units = quotas([int(Fraction(share) / total * 2**62) for share in shares], UNITS)
    for index, share in enumerate(shares):
        if share > 0 and not units[index]:
            units[units.index(max(units))] -= 1
            units[index] = 1
    return units


def quotas(units: Sequence[int], size: int) -> list[int]:
    """``size`` rows divided in proportion to ``units``, by the largest remainder; of equal ones the first."""
    total = sum(units)
    counts, rests = zip(*(divmod(size * each, total) for each in units), strict=True)
    largest = sorted(range(len(units)), key=lambda index: -rests[index])[: size - sum(counts)]
    return [count + (index in largest) for index, count in enumerate(counts)]


class Stride:
    """Turns of several, in proportion to their units.

    Among the first n turns each has n times its share, within less than one (R. Tijdeman 1980, "The chairman assignment
    problem", Discrete Mathematics 32, 323-330): of those that are owed 1/(2k - 2) of a turn or more, the one whose next
    turn is due first. Units may change from turn to turn; then nobody is owed much more than a turn.
    """

    def __init__(self, count: int) -> None:
        self._owed = [0] * count

    def next(self, units: Sequence[int]) -> int:
        """Whose turn it is. ``units``: of each, 0 for those that have none; their sum is to stay the same."""
        total, least = sum(units), 2 * sum(unit > 0 for unit in units) - 2
        best, numerator, denominator = -1, 0, 1
        for index, unit in enumerate(units):
            if not unit:
                continue
            owed = self._owed[index] = self._owed[index] + unit
            due = (least - 1) * total - least * owed  # over `unit`: until when the turn is due
            if owed * least >= total and (best < 0 or due * denominator < numerator * unit):
                best, numerator, denominator = index, due, unit
        if best < 0:  # one alone, or units that have just changed
            best = max((index for index, unit in enumerate(units) if unit), key=self._owed.__getitem__)
        self._owed[best] -= total
        return best
