"""Competence-based sampling (Platanios et al. 2019, arXiv 1903.09848)."""

from dataclasses import dataclass
from itertools import count

from curricle.schemas.common.config import option
from curricle.train.curricula.base import Curriculum, Stage, Steps
from curricle.train.curricula.pacing import draw
from curricle.train.data.table import Table


def competence(t: float, total: float, c0: float = 0.01, p: float = 2.0) -> float:
    """c(t) = min(1, (t (1 - c0^p) / T + c0^p)^(1/p)): ``p=1`` is linear, ``p=2`` the square root."""
    return 1.0 if t >= total else min(1.0, t * (1 - c0**p) / total + c0**p) ** (1 / p)


@dataclass(frozen=True)
class Competence(Curriculum):
    """Each step draws its batch uniformly, without repeats inside it, from the easiest c(t) of the rows."""

    by: str = option("score column, NAME or NAME:high or NAME:low (the hard end)", "loss")
    c0: float = option("the share that is visible at first", 0.01, above=0, at_most=1)
    p: float = option("the root: 1 linear, 2 square root", 2.0, above=0)
    length: float = option("epochs until all rows are visible", 1.0, above=0, at_most=1e9)

    def columns(self) -> tuple[str, ...]:
        return (self.by,)

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        rows = table.order(self.by, seed)
        total = max(1, round(self.length * len(rows) / batch))
        for step in count():
            share = competence(step, total, self.c0, self.p)
            yield Stage(draw(rows, share, batch, seed, step), competence={self.by: share})
