"""The cyclical curriculum (arXiv 2202.05531): the visible share rises and falls, drawn by the inverse of the loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor

import numpy as np
from curricle.schemas.common.config import option
from curricle.train.curricula.base import Curriculum, Stage, Steps, check, rng
from curricle.train.data.table import Table


def cycle_sizes(start: float = 0.25, end: float = 1.0, alpha: float = 0.5) -> Iterator[float]:
    """The share of the rows in each chunk, endlessly: from ``start`` up to ``end`` by 1/alpha, and down again."""
    size, rising = start, True
    while True:
        yield size
        if size == end:
            rising = False
        if size == start:
            rising = True
        size = min(size / alpha, end) if rising else max(size * alpha, start)


@dataclass(frozen=True)
class Cyclical(Curriculum):
    """Each stage draws a share of the rows without repeats, a row with a probability proportional to 1 / loss."""

    by: str = option("column of positive losses; the lower, the sooner drawn", "loss")
    start: float = option("the smallest share", 0.25, above=0, at_most=1)
    end: float = option("the largest share", 1.0, above=0, at_most=1)
    alpha: float = option("the factor between two stages", 0.5, above=0, below=1)
    floor: float = option("losses below this count as this, so that none is drawn always", 0.01, above=0, at_most=1e9)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.start <= self.end, f"start is {self.start}, end {self.end}", "give an end that is not below start")

    def columns(self) -> tuple[str, ...]:
        return (self.by,)

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        name, hard = table.direction(self.by)
        check(hard == "high", f"the low end of {name!r} is hard, so it is no loss", "name a loss column")
        losses = table.difficulty(self.by)
        rows = np.flatnonzero(~np.isnan(losses))
        losses = np.maximum(losses[rows], self.floor)
        for chunk, share in enumerate(cycle_sizes(self.start, self.end, self.alpha)):
            # the k smallest exponential waiting times of rate 1 / loss are a weighted draw without repeats
            # (Efraimidis and Spirakis 2006)
            waits = rng(seed, chunk).exponential(size=len(rows)) * losses
            yield Stage(rows[np.argsort(waits, kind="stable")[: max(1, floor(share * len(rows)))]])
