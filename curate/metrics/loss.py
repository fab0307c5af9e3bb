"""The proxy's loss on the response, given the prompt."""

import math
from collections.abc import Sequence

import pyarrow as pa
from curricle.curate.batch import Batch, LogLikelihood, Scores
from curricle.curate.metric import Metric
from curricle.curate.metrics.cells import Cell, to_scores
from curricle.curate.passes import LOSS, RENDERING
from curricle.schemas.chat.rendering import Rendered
from curricle.schemas.columns import ScoreColumn

COLUMNS = (
    ScoreColumn(
        "loss",
        pa.float64(),
        "nats per token",
        "mean negative log-likelihood of the response tokens given the prompt, under the proxy",
        hard="high",
    ),
    ScoreColumn("loss_tokens", pa.int32(), "tokens", "how many response tokens the loss is the mean over"),
    ScoreColumn("truncated", pa.bool_(), "flag", "the example was cut to the maximum length"),
)


def mean_loss(row: LogLikelihood) -> float | str:
    """Nats per token, or the reason why there is none."""
    if row.sum is None or row.count is None:
        return row.note or "not scored"
    if row.count == 0:
        return "no response tokens"
    loss = (0.0 - row.sum) / row.count  # not -sum, which turns 0.0 into -0.0
    return loss if math.isfinite(loss) else f"the proxy's loss is {loss}"


def compute(batch: Batch) -> Scores:
    """Loss, its number of tokens, and whether the example was cut; nulls, with notes, where the proxy has none.

    A note, too, where some of the answers are not scored.
    """
    rendered, losses = RENDERING.of(batch), LOSS.of(batch)
    cells: dict[str, Sequence[Cell]] = {
        "loss": [mean_loss(row) for row in losses],
        "loss_tokens": [row.count if row.count is not None else row.note or "not scored" for row in losses],
        "truncated": [_truncated(row) for row in rendered],
    }
    scores = to_scores(COLUMNS, cells)
    notes = {row: list(texts) for row, texts in scores.notes.items()}
    for row, each in enumerate(rendered):
        if each.remark:
            notes.setdefault(row, []).append(f"loss: {each.remark}")
    return Scores(scores.columns, notes)


def _truncated(row: Rendered) -> Cell:
    return row.truncated if row.truncated is not None else row.note or "not rendered"


METRIC = Metric("loss", 2, COLUMNS, compute, frozenset({RENDERING, LOSS}))
