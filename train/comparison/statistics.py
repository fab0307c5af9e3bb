"""Intervals and tests for a few runs of each arm: Student's t, paired by seed, corrected for several arms by Holm.

scipy, because its t distribution is right at any number of seeds, and it works on many comparisons at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """Of one value for each seed. ``interval``: half the width of the 95 % interval; ``p``: two-sided, that it is 0.

    Both are None for one seed, and where every seed gave the same value: the spread over seeds says nothing then.
    """

    mean: float
    interval: float | None
    p: float | None
    same: bool

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        array = np.asarray(values, float)
        same = len(array) > 1 and bool((array == array[0]).all())
        if len(array) < 2 or same:
            return cls(float(array.mean()), None, None, same)
        half, p = t_interval(array)
        return cls(float(array.mean()), float(half), float(p), False)


def t_interval(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half the width of the 95 % interval of the mean over the last axis, and the p value that it is 0.

    ``values``: (…, seeds), at least two of them, not all equal. Both results: (…).
    """
    test = stats.ttest_1samp(values, 0.0, axis=-1)
    low, high = test.confidence_interval(LEVEL)
    return (high - low) / 2, test.pvalue


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted p values over the last axis (…, tests): who keeps those below a level errs in no more than that share.

    Holm (1979), Scandinavian Journal of Statistics 6(2): the k-th smallest of m counts m - k + 1 times, and none less
    than one before it.
    """
    tests = p.shape[-1]
    order = np.argsort(p, axis=-1, kind="stable")
    stepped = np.take_along_axis(p, order, -1) * np.arange(tests, 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    result = np.empty_like(adjusted)
    np.put_along_axis(result, order, adjusted, -1)
    return result
