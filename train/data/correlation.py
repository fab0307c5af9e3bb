"""Spearman's rank correlation: how far two columns of numbers put rows into the same order."""

import numpy as np
from numpy.typing import NDArray


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Spearman's rho over the rows where both are finite; None of fewer than three, or of a constant."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 3:
        return None
    ranks, others = _ranks(one[both]), _ranks(other[both])
    if np.ptp(ranks) == 0 or np.ptp(others) == 0:
        return None
    return float(np.corrcoef(ranks, others)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]
