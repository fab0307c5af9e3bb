"""The Bradley–Terry fit of a linear reward on fixed features: convex, so that it has one answer whatever the order."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from curricle.train.data.table import seeded_hash
from numpy.typing import NDArray
from torch.nn import functional as F

FOLDS = 5


def fit(differences: NDArray[np.float32], l2: float) -> NDArray[np.float64]:
    """The direction w (H,) for which Σ -log σ(w·d) is least over the pairs' differences d, preferred less other (N, H).

    The penalty is ``l2`` · H/2 · |w|² once every feature has a root mean square of 1 over the pairs: with 1 the reward
    of one answer over the other is expected to be about 1, whatever the width H, until pairs say otherwise.
    """
    pairs = torch.from_numpy(differences).double()
    scale = pairs.square().mean(0).sqrt()
    pairs = pairs / scale.where(scale > 0, 1.0)
    weight = torch.zeros(pairs.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=1000, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.softplus(-(pairs @ weight)).sum() + l2 * len(weight) / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    return (weight.detach() / scale.where(scale > 0, 1.0)).numpy()


def folds(ids: NDArray[np.uint8], learned: NDArray[np.bool_], seed: int, most: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each row (N,), by a seeded hash of its id (N, 16): equal ids are in one, whatever the others are.

    There are as many as there are different ids among those to be ``learned`` from, and at most ``most``; these fill
    them evenly, and every other row is in the one that its hash falls into.
    """
    hashes = seeded_hash(ids, seed)
    values = np.unique(hashes[learned])
    count = min(most, len(values))
    starts = values[np.arange(1, count) * len(values) // max(1, count)]
    return np.searchsorted(starts, hashes, side="right")


def cross_fit(
    differences: NDArray[np.float32], learned: NDArray[np.bool_], fold: NDArray[np.int64], l2: float
) -> NDArray[np.float64]:
    """The head of each fold (folds, H), fitted on the pairs to be learned from in the others; NaN where there is none.

    A row is scored by the head of its own fold, which has seen neither it nor its like, whether it is learned from or
    not. So all rewards are of one kind: each by one head, of four fifths of the pairs. The mean of all heads for those
    that none has seen would be no fairer: it varies less, and the ends of an order would be the rows learned from.
    """
    heads = np.full((int(fold.max(initial=0)) + 1, differences.shape[1]), np.nan)
    for index in range(len(heads)):
        others = learned & (fold != index)
        if others.any():
            heads[index] = fit(differences[others], l2)
    return heads


def rewards(states: NDArray[np.float32], heads: NDArray[np.float64], fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """The rewards (…, N) of states (…, N, H), each row's by the head of its fold."""
    rewards = np.empty(states.shape[:-1])
    for index in np.unique(fold):
        rows = fold == index
        rewards[..., rows] = states[..., rows, :].astype(np.float64) @ heads[index]
    return rewards


class Accuracy(NamedTuple):
    """The share of ``pairs`` that are ranked as they should be, and its Wilson 95% interval; None of no pairs."""

    pairs: int
    share: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, gaps: NDArray[np.float64]) -> "Accuracy":
        """``gaps``: the preferred answer's reward less the other's. Equal rewards rank nothing."""
        n = len(gaps)
        if n == 0:
            return cls(0, None, None, None)
        share, z = float((gaps > 0).mean()), NormalDist().inv_cdf(0.975)
        middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return cls(n, share, (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))

    def __str__(self) -> str:
        if self.share is None:
            return "no pairs"
        return f"{self.share:.1%} of {self.pairs:,} pairs (95% interval {self.low:.1%} to {self.high:.1%})"
