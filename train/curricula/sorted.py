"""Sorted by one score: the classic curriculum, and its opposite."""

from dataclasses import dataclass
from itertools import count
from typing import Literal

from curricle.schemas.common.config import option
from curricle.train.curricula.base import Stage, Steps, rng
from curricle.train.curricula.bins import Binning
from curricle.train.data.table import Table


@dataclass(frozen=True)
class Sorted(Binning):
    """Every epoch visits every row that has the score once, from easy to hard or from hard to easy.

    With ``thresholds`` it is the "curriculum" of arXiv 2408.07888 in its easy-medium-hard variant.
    """

    by: str = option("score column, NAME or NAME:high or NAME:low (the hard end)", "loss")
    direction: Literal["easy_to_hard", "hard_to_easy"] = option("which end comes first", "easy_to_hard")

    def columns(self) -> tuple[str, ...]:
        return (self.by,)

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        for epoch in count():
            rows, _ = self.sort(table, self.by, seed, rng(seed, epoch))
            yield Stage(rows if self.direction == "easy_to_hard" else rows[::-1])
