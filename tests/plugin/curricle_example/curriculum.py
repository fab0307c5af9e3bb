"""The easiest row, then the hardest, then the next easiest: contrasts side by side."""

from dataclasses import dataclass

import numpy as np
from curricle.schemas.common.config import option
from curricle.train.curricula.base import Curriculum, Stage, Steps
from curricle.train.data.table import Table


@dataclass(frozen=True)
class Zigzag(Curriculum):
    """From both ends of one score towards its middle, again and again."""

    by: str = option("score column, NAME or NAME:high or NAME:low (the hard end)", "loss")

    def columns(self) -> tuple[str, ...]:
        return (self.by,)

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        rows = table.order(self.by, seed)
        ends = np.stack([rows, rows[::-1]], axis=1).ravel()[: len(rows)]
        while True:
            yield Stage(ends)
