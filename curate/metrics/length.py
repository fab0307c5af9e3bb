"""Length, in Unicode words and in tokens of the proxy: the oldest measure of difficulty."""

from collections.abc import Sequence

import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.metric import Metric
from curricle.curate.metrics.cells import Cell, to_scores
from curricle.curate.passes import RENDERING
from curricle.curate.words import SEGMENTATION, UNICODE, count_words
from curricle.schemas.chat.rendering import Rendered
from curricle.schemas.columns import ScoreColumn

TOKENS = "tokens of the proxy's tokenizer, as rendered and before any cut"

COLUMNS = (
    ScoreColumn("prompt_words", pa.int32(), "words", "Unicode words (UAX #29) of the prompt", hard="high"),
    ScoreColumn("response_words", pa.int32(), "words", "Unicode words (UAX #29) of the response", hard="high"),
    ScoreColumn("prompt_tokens", pa.int32(), "tokens", f"the prompt in {TOKENS}", hard="high"),
    ScoreColumn("response_tokens", pa.int32(), "tokens", f"the response in {TOKENS}", hard="high"),
)


def compute(batch: Batch) -> Scores:
    """Counts of words and tokens; null tokens, with a note, where a conversation could not be rendered."""
    rendered = RENDERING.of(batch)
    cells: dict[str, Sequence[Cell]] = {
        "prompt_words": count_words(batch.prompts).tolist(),
        "response_words": count_words(batch.responses).tolist(),
        "prompt_tokens": [counted(row.prompt_tokens, row) for row in rendered],
        "response_tokens": [counted(row.response_tokens, row) for row in rendered],
    }
    return to_scores(COLUMNS, cells)


def counted(count: int | None, row: Rendered) -> Cell:
    return count if count is not None else row.note or "not rendered"


METRIC = Metric(
    "length",
    1,
    COLUMNS,
    compute,
    frozenset({RENDERING}),
    {"words": "UAX #29", "segmentation": SEGMENTATION, "unicode": UNICODE},
)
