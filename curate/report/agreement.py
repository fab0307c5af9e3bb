"""Whether what one model finds hard another finds hard: rank correlation, and overlap of what each would select."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from curricle.curate.report.distributions import rank_correlations
from numpy.typing import NDArray

End = Literal["high", "low"]

SHARES = (0.33, 0.10)
CURVE = tuple(percent / 100 for percent in range(1, 101))


@dataclass(frozen=True)
class Overlap:
    """How many of the ``taken`` rows at one end of a column are at the same end of the other, as a share of them.

    ``chance`` is what two random choices have in common on average.
    """

    end: End
    share: float
    taken: int
    overlap: float
    chance: float


@dataclass(frozen=True)
class Agreement:
    """Of two columns over the same rows. ``curve`` has the share taken at the hard end, and the overlap there."""

    rows: int
    spearman: float | None
    overlaps: Sequence[Overlap]
    curve: Sequence[tuple[float, float]]


def agreement(one: NDArray[np.float64], other: NDArray[np.float64], hard: End) -> Agreement:
    """Compare two columns of finite numbers, row by row; Spearman's rho is None where it is not defined."""
    ((), (spearman,)) = rank_correlations(pl.DataFrame({"other": other, "one": one}))
    ends: tuple[End, End] = ("high", "low") if hard == "high" else ("low", "high")
    return Agreement(
        len(one),
        spearman,
        [_overlap(one, other, share, end) for end in ends for share in SHARES],
        [(overlap.chance, overlap.overlap) for overlap in (_overlap(one, other, share, hard) for share in CURVE)],
    )


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64], share: float, end: End) -> Overlap:
    count = max(1, round(share * len(one)))
    sign = -1 if end == "high" else 1
    common = float(_membership(sign * one, count) @ _membership(sign * other, count))
    return Overlap(end, share, count, common / count, count / len(one))


def _membership(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """How surely each row is among the ``count`` lowest: equal rows share the ranks that are left for them."""
    last = np.partition(values, count - 1)[count - 1]
    below, equal = values < last, values == last
    return below + equal * ((count - below.sum()) / equal.sum())
