"""How scoring runs: Beam transforms, the jobs made of them, and the ``curricle`` command.

There is a function beside each command of ``curricle``, and ``Score`` is a transform for Beam pipelines of your own::

    manifest = pipelines.score("alpaca.jsonl", "scored", metrics=["length", "loss"])
    scored = conversations | pipelines.Score(["loss"], proxy="org/name")
"""

from typing import TYPE_CHECKING

from curricle.schemas.common.lazy import attach

if TYPE_CHECKING:
    from curricle.pipelines.functions import add as add
    from curricle.pipelines.functions import check_selection as check_selection
    from curricle.pipelines.functions import cluster as cluster
    from curricle.pipelines.functions import concat as concat
    from curricle.pipelines.functions import contamination as contamination
    from curricle.pipelines.functions import diff as diff
    from curricle.pipelines.functions import lp as lp
    from curricle.pipelines.functions import push as push
    from curricle.pipelines.functions import report as report
    from curricle.pipelines.functions import reward as reward
    from curricle.pipelines.functions import run as run
    from curricle.pipelines.functions import score as score
    from curricle.pipelines.functions import select as select
    from curricle.pipelines.functions import split as split
    from curricle.pipelines.functions import status as status
    from curricle.pipelines.functions import transfer as transfer
    from curricle.pipelines.functions import verify as verify
    from curricle.pipelines.transforms.records import Score as Score

_FUNCTIONS = (
    "add",
    "check_selection",
    "cluster",
    "concat",
    "contamination",
    "diff",
    "lp",
    "push",
    "report",
    "reward",
    "run",
    "score",
    "select",
    "split",
    "status",
    "transfer",
    "verify",
)
_MODULES = {"Score": "transforms.records", **dict.fromkeys(_FUNCTIONS, "functions")}
"""The public names, and where each is: imported when it is asked for, because Beam takes seconds."""

__all__ = [*_MODULES]
__getattr__, __dir__ = attach(__name__, _MODULES)
