"""HD-D, MATTR and MSTTR: further measures of lexical diversity, computed by lexicalrichness itself."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.metric import Metric
from curricle.curate.metrics.cells import Cell, to_scores
from curricle.curate.words import SEGMENTATION, UNICODE, tokens
from curricle.schemas.columns import ScoreColumn


def _metric(name: str, fewest: int, meaning: str, **params: Any) -> Metric:
    """A measure of lexicalrichness for prompts and responses; ``fewest``: it raises on texts with fewer words."""
    columns = [
        ScoreColumn(f"{side}_{name}", pa.float64(), "ratio", f"{meaning}; of the {side}", hard="high")
        for side in ("prompt", "response")
    ]
    identity = {**params, "implementation": "lexicalrichness 0.5.1", "segmentation": SEGMENTATION, "unicode": UNICODE}
    return Metric(name, 1, columns, partial(_compute, name, fewest, params, columns), params=identity)


def _compute(name: str, fewest: int, params: dict[str, Any], columns: Sequence[ScoreColumn], batch: Batch) -> Scores:
    from lexicalrichness import LexicalRichness  # brings matplotlib, pandas and scipy: only where it is used

    def cell(text: str) -> Cell:
        words = tokens(text)
        if len(words) < fewest:
            return f"fewer than {fewest} words"
        return float(getattr(LexicalRichness(words, preprocessor=None, tokenizer=None), name)(**params))

    texts = batch.prompts, batch.responses
    return to_scores(columns, {c.name: [cell(text) for text in t] for c, t in zip(columns, texts, strict=True)})


METRICS = (
    _metric(
        "hdd",
        42,
        "HD-D: expected type-token ratio of 42 words drawn without replacement (McCarthy & Jarvis 2007)",
        draws=42,
    ),
    _metric(
        "mattr",
        100,
        "MATTR: mean type-token ratio of every window of 100 words (Covington & McFall 2010)",
        window_size=100,
    ),
    _metric(
        "msttr",
        101,
        "MSTTR: mean type-token ratio of segments of 100 words, the last one discarded (Johnson 1944)",
        segment_window=100,
    ),
)
