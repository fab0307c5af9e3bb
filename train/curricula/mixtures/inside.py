"""The order inside a domain: one of the others of ours, over the rows of that domain alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from curricle.schemas.common.errors import UsageError
from curricle.train.data.table import Table
from numpy.typing import NDArray

if TYPE_CHECKING:
    from curricle.train.curricula.base import Curriculum

ASKING = ("campus",)
"""Orders that follow the student."""
STATIC = ("random", "sorted", "competence", "paced", "cyclical", "blocked", "interleaved", "random_stages")
"""Orders that ask nobody."""


def order_inside(text: str, names: Sequence[str] = (*STATIC, *ASKING)) -> "Curriculum":
    """``NAME`` or ``NAME?key=value&key=value``, as an arm of a comparison is written; UsageError for what is none."""
    from curricle.train import curricula  # which imports this module

    name, _, query = text.partition("?")
    if name not in names:
        raise UsageError(
            f"--curriculum.order is {text!r}, which is no order inside a domain here",
            remedy=f"name one of {', '.join(names)}, with its options as sorted?by=loss",
        )
    return curricula.build(name, dict(curricula.options_in(query, f"--curriculum.order {text!r}")))


def asks(text: str) -> bool:
    """Whether an order follows the student."""
    return text.partition("?")[0] in ASKING


def in_order(table: Table, order: "Curriculum") -> NDArray[np.bool_]:
    """Rows that an order visits, bool (rows,): those that have a score which it sorts by, all where there is none."""
    scores = [table.numbers(table.direction(name)[0]) for name in order.columns() if table.has_direction(name)]
    return ~np.all(np.isnan(scores), axis=0) if scores else np.ones(len(table), bool)
