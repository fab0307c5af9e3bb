"""Before a reward model is fitted: everything about it that can be refused without a model, and without torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from curricle.schemas.columns import REWARD_VERSION
from curricle.schemas.common.disk import check_writable
from curricle.train.data.holdout import left_out
from curricle.train.data.table import Table, open_table
from curricle.train.extras import check_attention
from curricle.train.model.locate import check_name, identify
from curricle.train.records.run_json import Description, read_description
from curricle.train.settings import RewardSettings
from numpy.typing import NDArray


@dataclass(frozen=True)
class RewardPreparation:
    """A reward model that is to be fitted. ``out``: which rows it does not learn from, bool (rows,). ``before``: what
    ``run.json`` says.
    """

    settings: RewardSettings
    table: Table
    out: NDArray[np.bool_]
    description: Description
    before: dict[str, Any]


def prepare(settings: RewardSettings) -> RewardPreparation:
    """Read what a reward model rests on. UsageError for what is wrong with it, before anything is written."""
    if read_description(settings.output).get("finished") is None:
        check_writable(settings.output)
    check_attention(settings.device)
    check_name(settings.model)
    table = open_table(settings.data, settings.join)
    table.check_texts()
    table.check_columns([settings.generated])
    out = left_out(table, settings.leave_out)
    description = Description.of(
        settings,
        table,
        identify(settings.model),
        REWARD_VERSION,
        left_out={"--leave-out": int(out.sum())} if out.any() else {},
        without=digest_without(table, out),
    )
    return RewardPreparation(settings, table, out, description, description.before())


def digest_without(table: Table, out: NDArray[np.bool_]) -> str | None:
    """The digest of the rows that are left out; None if none is."""
    return table.take(np.flatnonzero(out)).digest if out.any() else None
