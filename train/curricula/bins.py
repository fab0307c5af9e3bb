"""Bins of similar difficulty, shuffled inside: the easy-medium-hard variant of a sorted order."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from curricle.schemas.common.config import option
from curricle.train.curricula.base import Curriculum, check
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray


@dataclass(frozen=True)
class Binning(Curriculum):
    """Options of curricula that sort, and how they cut (arXiv 2408.07888 uses easy, medium and hard)."""

    thresholds: tuple[float, ...] = option("cut the order into bins at these values and shuffle inside; none: sort", ())
    thresholds_on: Literal["share", "score"] = option(
        "thresholds are shares of the rows in (0, 1), or values of the score", "share"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = self.thresholds if self.thresholds_on == "share" else ()
        bad = [each for each in shares if not 0 < each < 1]
        check(not bad, f"thresholds has {bad and bad[0]}", "give shares between 0 and 1, or thresholds_on score")

    def sort(self, table: Table, column: str, seed: int, random: np.random.Generator) -> tuple[Rows, NDArray[np.int64]]:
        """The rows that have the score, from easy to hard, and the bin of each, from 0 (all 0 without thresholds).

        A row whose score equals a threshold is in the easier bin. Inside a bin rows are in an order drawn from
        ``random``; without thresholds ties are in the order of ``Table.sort``.
        """
        difficulty = table.difficulty(column)
        rows = table.sort(difficulty, seed)
        if not self.thresholds:
            return rows, np.zeros(len(rows), np.int64)
        edges = np.sort(np.array(self.thresholds))
        if self.thresholds_on == "share":
            bins = np.digitize(np.arange(1, len(rows) + 1) / len(rows), edges, right=True)
        else:
            edges = np.sort(-edges) if table.direction(column)[1] == "low" else edges
            bins = np.digitize(difficulty[rows], edges, right=True)
        shuffled = np.lexsort((random.random(len(rows)), bins))
        return rows[shuffled], bins[shuffled].astype(np.int64)
