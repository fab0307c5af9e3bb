"""The proxy's own answer to the prompt of the last response: what a reward model compares with the response."""

import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.metric import Metric
from curricle.curate.passes import GENERATION
from curricle.schemas.columns import ScoreColumn

COLUMNS = (
    ScoreColumn("generated", pa.string(), "text", "the proxy's own answer to what comes before the last response"),
    ScoreColumn(
        "generated_tokens", pa.int32(), "tokens", "how many tokens the proxy drew, the one that ends the answer too"
    ),
    ScoreColumn("generated_truncated", pa.bool_(), "flag", "whether the answer was cut there, and did not end"),
)


def compute(batch: Batch) -> Scores:
    """Text and length of each answer; nulls, with notes, where there is none, and a note where it was cut."""
    answers = GENERATION.of(batch)
    arrays = {
        "generated": pa.array([row.text for row in answers], pa.string()),
        "generated_tokens": pa.array([row.tokens for row in answers], pa.int32()),
        "generated_truncated": pa.array([row.truncated for row in answers], pa.bool_()),
    }
    return Scores(arrays, {row: [f"generated: {it.note}"] for row, it in enumerate(answers) if it.note})


METRIC = Metric("generated", 3, COLUMNS, compute, frozenset({GENERATION}))
