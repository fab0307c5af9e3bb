"""Which rows are trained on and which are held out."""

import numpy as np

from train.settings import PlanSettings, TrainSettings
from train.table import Table, open_table


def split(settings: TrainSettings | PlanSettings) -> tuple[Table, Table | None]:
    """The rows to train on, and those held out. The split rests on their ids and ``eval.seed``, on nothing else."""
    table = open_table(settings.data, settings.join)
    if settings.eval.data is not None:
        return table, open_table(settings.eval.data)
    if not settings.eval.rows:
        return table, None
    order = table.tie_order(settings.eval.seed)
    return table.take(np.sort(order[settings.eval.rows :])), table.take(np.sort(order[: settings.eval.rows]))
