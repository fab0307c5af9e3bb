"""IFD, instruction-following difficulty: how little the prompt helps the proxy with the response.

Two definitions are published and rank differently, so the table holds both: a ratio of losses (Cherry LLM,
arXiv 2308.12032) and a ratio of perplexities (Superfiltering, arXiv 2402.00530). Below 1 the prompt helps;
from 1 on it does not, and both papers drop the example.
"""

import math
from collections.abc import Sequence

import pyarrow as pa
from curricle.curate.batch import Batch, LogLikelihood, Scores
from curricle.curate.metric import Metric
from curricle.curate.metrics.cells import Cell, to_scores
from curricle.curate.metrics.loss import mean_loss
from curricle.curate.passes import LOSS, UNCONDITIONAL_LOSS
from curricle.schemas.columns import ScoreColumn

_LARGEST = 700.0  # nats: exp() of more leaves float64's range, in either direction

COLUMNS = (
    ScoreColumn(
        "loss_unconditional",
        pa.float64(),
        "nats per token",
        "mean negative log-likelihood of the same response tokens without the prompt, under the proxy",
        hard="high",
    ),
    ScoreColumn(
        "ifd_loss_ratio",
        pa.float64(),
        "ratio",
        "IFD as a ratio of losses: loss / loss_unconditional (Cherry LLM, arXiv 2308.12032); from 1 on, misaligned",
        hard="high",
    ),
    ScoreColumn(
        "ifd_ppl_ratio",
        pa.float64(),
        "ratio",
        "IFD as a ratio of perplexities: exp(loss - loss_unconditional) (Superfiltering, arXiv 2402.00530); "
        "from 1 on, misaligned",
        hard="high",
    ),
)


def compute(batch: Batch) -> Scores:
    """Loss without the prompt and both ratios; nulls, with notes, where one of the losses is missing."""
    unconditional = UNCONDITIONAL_LOSS.of(batch)
    ratios = [ifd_ratios(*row) for row in zip(LOSS.of(batch), unconditional, strict=True)]
    cells: dict[str, Sequence[Cell]] = {
        "loss_unconditional": [mean_loss(row) for row in unconditional],
        "ifd_loss_ratio": [by_loss for by_loss, _ in ratios],
        "ifd_ppl_ratio": [by_perplexity for _, by_perplexity in ratios],
    }
    return to_scores(COLUMNS, cells)


def ifd_ratios(conditional: LogLikelihood, unconditional_row: LogLikelihood) -> tuple[Cell, Cell]:
    """IFD by loss and by perplexity, or why not."""
    loss, unconditional = mean_loss(conditional), mean_loss(unconditional_row)
    if isinstance(loss, str):
        return loss, loss
    if isinstance(unconditional, str):
        reason = f"without the prompt: {unconditional}"
        return reason, reason
    if conditional.count != unconditional_row.count:
        reason = f"{conditional.count} tokens with the prompt, {unconditional_row.count} without"
        return reason, reason
    by_loss: Cell = loss / unconditional if unconditional else "loss_unconditional is 0"
    if by_loss == math.inf:
        by_loss = "loss_unconditional is too near 0"
    gain = loss - unconditional
    by_perplexity: Cell = math.exp(gain) if abs(gain) <= _LARGEST else f"exp({gain:g}) is outside float64"
    return by_loss, by_perplexity


METRIC = Metric("ifd", 2, COLUMNS, compute, frozenset({LOSS, UNCONDITIONAL_LOSS}))
