"""The lean trainer: reads the difficulty table and trains on it in the order of a curriculum.

``open_table`` opens a table, ``order`` gives the order of a curriculum over it, and there is a function beside each
command of ``curricle-train``::

    table = train.open_table("scored")
    order = train.order(table, curriculum="competence", by="loss")
    checkpoint = train.run("scored", model="smollm2-135m", output="run", budget={"samples": 2000})

What is heavy is imported when it is needed. A curriculum of your own derives ``train.curricula.base.Curriculum``.
"""

import os
from typing import TYPE_CHECKING

from curricle.schemas.common.lazy import attach

os.environ.setdefault("USE_HUB_KERNELS", "NO")  # with `kernels` installed, transformers fetches code for some models

if TYPE_CHECKING:
    from curricle.train.commands import compare as compare
    from curricle.train.commands import evaluate as evaluate
    from curricle.train.commands import export as export
    from curricle.train.commands import plan as plan
    from curricle.train.commands import report as report
    from curricle.train.commands import reward as reward
    from curricle.train.commands import run as run
    from curricle.train.commands import status as status
    from curricle.train.commands import verify as verify
    from curricle.train.commands import verify_order as verify_order
    from curricle.train.data.holdout import hold_out as hold_out
    from curricle.train.data.table import Table as Table
    from curricle.train.data.table import open_table as open_table
    from curricle.train.ordering.order import Order as Order
    from curricle.train.ordering.order import order as order

_MODULES = {
    "Order": "ordering.order",
    "Table": "data.table",
    "hold_out": "data.holdout",
    "open_table": "data.table",
    "order": "ordering.order",
    **dict.fromkeys(
        ("compare", "evaluate", "export", "plan", "report", "reward", "run", "status", "verify", "verify_order"),
        "commands",
    ),
}
"""The public names, and where each is: imported when it is asked for, because ``--help`` reads this package too."""

__all__ = [*_MODULES]
__getattr__, __dir__ = attach(__name__, _MODULES)
