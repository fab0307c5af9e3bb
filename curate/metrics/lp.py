"""Learning percentage: how much of what a model learns of an example in all epochs it learns in the first.

P_k is the perplexity of the response after epoch k of fine-tuning, P_0 before it (Mekala, Nguyen and Shang,
arXiv 2402.10430). What is learned late is hard. Learnability (LoBaSS, arXiv 2310.13008) is the share of the loss,
not of the perplexity, that fine-tuning takes away. Its authors keep the high end, the paper on learning percentage
keeps the low one; in both, low is what the model is slow to learn, and that is what the direction says.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.metric import Metric, MetricFactory
from curricle.curate.metrics.cells import Cell, to_scores
from curricle.curate.metrics.loss import mean_loss
from curricle.curate.passes import CHECKPOINT_LOSSES, RENDERING
from curricle.curate.passes.models import Models
from curricle.schemas.chat.rendering import Rendered
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError

Compat = Literal["small2large"]

EPSILON = 1e-3
"""A perplexity that training moves by less has not changed: that much is in the rounding of half precision."""
_LARGEST = 300.0  # nats per token: ratios of perplexities up to exp() of it stay inside float64
_NOTHING_TO_LEARN = "the perplexity before training is 1: there is nothing to learn"


def metric(checkpoints: int, compat: Compat | None = None, epsilon: float = EPSILON) -> Metric:
    """The metric for a model before training and after ``checkpoints - 1`` epochs.

    With two checkpoints there is no ``lp_1``: the first epoch is the last, and the ratio 1 for every row.
    ``compat`` computes ``lp_1`` and ``lp_app`` as small2large, the authors' code, does: 0, which ranks hardest, where
    the perplexity is the same before and after, and where the cut to the maximum length left no response token.
    """
    params = {"checkpoints": checkpoints, "compat": compat, "epsilon": epsilon}
    columns = _columns(checkpoints)
    reckon = partial(compute, columns, compat, epsilon)
    return Metric("lp", 2, columns, reckon, frozenset({RENDERING, CHECKPOINT_LOSSES}), params)


def parameters(models: Models, options: Mapping[str, Any]) -> dict[str, Any]:
    """What ``metric`` is made from: how many checkpoints there are, and ``compat``. UsageError if there are none."""
    checkpoints = len(models.proxy.checkpoints)
    if not checkpoints:
        raise UsageError(
            "the metric lp compares checkpoints, and none is named",
            remedy="add --proxy.checkpoints P0,P1,…, or use `curricle lp`, which trains them",
        )
    return {"checkpoints": checkpoints, **options}


def _columns(checkpoints: int) -> list[ScoreColumn]:
    last = checkpoints - 1
    perplexities = [
        ScoreColumn(
            f"ppl_epoch_{epoch}",
            pa.float64(),
            "perplexity",
            "exp of the mean negative log-likelihood of the response tokens given the prompt, under the proxy "
            + (f"after {epoch} of {last} epochs" if epoch else "before training"),
            hard="high",
        )
        for epoch in range(checkpoints)
    ]
    lp_1 = ScoreColumn(
        "lp_1",
        pa.float64(),
        "ratio",
        f"learning percentage of the first epoch, (P_0 - P_1) / (P_0 - P_{last}) on perplexities (arXiv 2402.10430)",
        hard="low",
    )
    lp_app = ScoreColumn(
        "lp_app",
        pa.float64(),
        "ratio",
        "learning percentage approximated from one epoch, (P_0 - P_1) / P_0 on perplexities (arXiv 2402.10430)",
        hard="low",
    )
    learnability = ScoreColumn(
        "learnability",
        pa.float64(),
        "ratio",
        f"LoBaSS, (L_0 - L_{last}) / L_0 on mean losses (arXiv 2310.13008), which selects the high end",
        hard="low",
    )
    return [*perplexities, *([lp_1] if last > 1 else []), lp_app, learnability]


def learning_percentage(perplexities: Sequence[float], compat: Compat | None = None, epsilon: float = EPSILON) -> Cell:
    """LP(1) of one example from P_0, P_1, …, P_n, or why there is none."""
    gained, whole = perplexities[0] - perplexities[1], perplexities[0] - perplexities[-1]
    if compat:
        return gained / whole if whole else 0.0
    if perplexities[0] <= 1:
        return _NOTHING_TO_LEARN
    return gained / whole if abs(whole) >= epsilon else f"training moves the perplexity by less than {epsilon:g}"


def approximate_percentage(perplexities: Sequence[float], compat: Compat | None = None) -> Cell:
    """LP_app of one example from P_0 and P_1, or why there is none."""
    before, after = perplexities[:2]
    return (before - after) / before if before > 1 or compat else _NOTHING_TO_LEARN


def learnability(losses: Sequence[float]) -> Cell:
    """LoBaSS of one example from its mean losses L_0, …, L_n, or why there is none."""
    return (losses[0] - losses[-1]) / losses[0] if losses[0] > 0 else "the loss before training is 0"


def compute(columns: Sequence[ScoreColumn], compat: Compat | None, epsilon: float, batch: Batch) -> Scores:
    """Perplexities at each checkpoint and the three ratios; nulls, with notes, where one of the losses is missing."""
    cells: defaultdict[str, list[Cell]] = defaultdict(list)
    for rendered, likelihoods in zip(RENDERING.of(batch), zip(*CHECKPOINT_LOSSES.of(batch), strict=True), strict=True):
        losses = [_bounded(mean_loss(row)) for row in likelihoods]
        values = [loss for loss in losses if not isinstance(loss, str)]
        for epoch, loss in enumerate(losses):
            cells[f"ppl_epoch_{epoch}"].append(loss if isinstance(loss, str) else math.exp(loss))
        missing = next((reason for reason in losses if isinstance(reason, str)), None)
        cells["learnability"].append(missing or learnability(values))
        if compat and _unread(rendered):
            values, missing = [0.0] * len(losses), None
        perplexities = [math.exp(loss) for loss in values]
        cells["lp_1"].append(missing or learning_percentage(perplexities, compat, epsilon))
        cells["lp_app"].append(missing or approximate_percentage(perplexities, compat))
    return to_scores(columns, cells)


def _bounded(loss: float | str) -> float | str:
    return loss if isinstance(loss, str) or loss <= _LARGEST else f"exp({loss:g}) is too large"


def _unread(row: Rendered) -> bool:
    """Whether the cut left no response token, where the authors' code takes the loss for 0."""
    return bool(row.truncated) and not row.spans


METRIC = MetricFactory("lp", parameters, metric)
