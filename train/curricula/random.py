"""Random order: the baseline."""

from dataclasses import dataclass
from itertools import count

from curricle.train.curricula.base import Curriculum, Stage, Steps, rng
from curricle.train.data.table import Table


@dataclass(frozen=True)
class Random(Curriculum):
    """Every epoch visits every row once, in a new uniformly random order."""

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        for epoch in count():
            yield Stage(rng(seed, epoch).permutation(len(table)))
