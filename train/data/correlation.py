"""What a reward gap goes along with: a scorer that counts words, or repeats what the loss says, adds nothing."""

from collections.abc import Mapping

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


def correlations(gaps: NDArray[np.float64], others: Mapping[str, NDArray[np.float64]]) -> dict[str, float | None]:
    """Spearman's rho of the gaps with each of these."""
    return {name: spearman(gaps, values) for name, values in others.items()}
