"""Length, loss and IFD of the answers that were rejected, for preference data: how hard it is to tell the two apart."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.metric import Metric
from curricle.curate.metrics import ifd, length
from curricle.curate.metrics.cells import Cell, to_scores
from curricle.curate.metrics.loss import mean_loss
from curricle.curate.passes.preference import (
    CHOSEN_LOSS,
    NO_REJECTED,
    REJECTED_LOSS,
    REJECTED_RENDERING,
    REJECTED_UNCONDITIONAL_LOSS,
)
from curricle.curate.words import count_words
from curricle.schemas.chat.responses import RESPONSE_ROLE
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.inputs import Turn

LENGTH_COLUMNS = (
    ScoreColumn("rejected_words", pa.int32(), "words", "Unicode words (UAX #29) of the rejected answer"),
    ScoreColumn("rejected_tokens", pa.int32(), "tokens", f"the rejected answer in {length.TOKENS}"),
)
LOSS_COLUMNS = (
    ScoreColumn(
        "chosen_loss",
        pa.float64(),
        "nats per token",
        "mean negative log-likelihood of the chosen answer's tokens, from where it and the rejected one part, under "
        "the proxy: `loss`, where there is one answer in the conversation",
        hard="high",
    ),
    ScoreColumn(
        "rejected_loss",
        pa.float64(),
        "nats per token",
        "mean negative log-likelihood of the rejected answer's tokens, from where it and the chosen one part",
    ),
    ScoreColumn(
        "margin",
        pa.float64(),
        "nats per token",
        "rejected_loss - chosen_loss: below 0, the proxy finds the rejected answer likelier",
        hard="low",
    ),
)
IFD_COLUMNS = (
    ScoreColumn("rejected_loss_unconditional", pa.float64(), "nats per token", "the same tokens without the prompt"),
    ScoreColumn("rejected_ifd_loss_ratio", pa.float64(), "ratio", "IFD of the rejected answer, as ifd_loss_ratio"),
    ScoreColumn("rejected_ifd_ppl_ratio", pa.float64(), "ratio", "IFD of the rejected answer, as ifd_ppl_ratio"),
)


def compute_length(batch: Batch) -> Scores:
    """Words and tokens of the first answer that was rejected."""
    counts = count_words([_text(answers[0][1]) if answers else "" for answers in batch.rejected]).tolist()
    words: list[Cell] = [
        count if answers else NO_REJECTED for count, answers in zip(counts, batch.rejected, strict=True)
    ]
    tokens = [length.counted(row.response_tokens, row) for row in REJECTED_RENDERING.of(batch)]
    return _scores(batch, LENGTH_COLUMNS, {"rejected_words": words, "rejected_tokens": tokens})


def compute_loss(batch: Batch) -> Scores:
    """The loss of both answers, and by how much that of the rejected one is higher."""
    chosen, other = ([mean_loss(row) for row in each.of(batch)] for each in (CHOSEN_LOSS, REJECTED_LOSS))
    margins = [*map(_margin, other, chosen)]
    return _scores(batch, LOSS_COLUMNS, {"chosen_loss": chosen, "rejected_loss": other, "margin": margins})


def compute_ifd(batch: Batch) -> Scores:
    """The rejected answer's loss without the prompt, and both ratios."""
    unconditional = REJECTED_UNCONDITIONAL_LOSS.of(batch)
    both = [ifd.ifd_ratios(*row) for row in zip(REJECTED_LOSS.of(batch), unconditional, strict=True)]
    cells: Mapping[str, Sequence[Cell]] = {
        "rejected_loss_unconditional": [mean_loss(row) for row in unconditional],
        "rejected_ifd_loss_ratio": [by_loss for by_loss, _ in both],
        "rejected_ifd_ppl_ratio": [by_perplexity for _, by_perplexity in both],
    }
    return _scores(batch, IFD_COLUMNS, cells)


def _text(answer: list[Turn]) -> str:
    return "\n".join(turn["content"] for turn in answer if turn["role"] == RESPONSE_ROLE)


def _margin(other: float | str, chosen: float | str) -> float | str:
    if isinstance(other, str):
        return other
    return chosen if isinstance(chosen, str) else other - chosen


def _scores(batch: Batch, columns: Sequence[ScoreColumn], cells: Mapping[str, Sequence[Cell]]) -> Scores:
    """The cells, and a note on rows of which more than one answer was rejected."""
    scores = to_scores(columns, cells)
    notes = {row: [*texts] for row, texts in scores.notes.items()}
    for row, answers in enumerate(batch.rejected):
        if len(answers) > 1:
            notes.setdefault(row, []).append(f"{columns[0].name}: of the first of {len(answers)} rejected answers")
    return Scores(scores.columns, notes)


METRICS = (
    Metric("rejected_length", 1, LENGTH_COLUMNS, compute_length, frozenset({REJECTED_RENDERING}), length.METRIC.params),
    Metric("rejected_loss", 1, LOSS_COLUMNS, compute_loss, frozenset({CHOSEN_LOSS, REJECTED_LOSS})),
    Metric("rejected_ifd", 1, IFD_COLUMNS, compute_ifd, frozenset({REJECTED_LOSS, REJECTED_UNCONDITIONAL_LOSS})),
)
