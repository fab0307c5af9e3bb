"""How loud a response is."""

import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.metric import Metric
from curricle.schemas.columns import ScoreColumn

COLUMN = ScoreColumn("response_exclamations", pa.int32(), "marks", "exclamation marks in the response", hard="high")


def compute(batch: Batch) -> Scores:
    """One count a row, from the row's own text alone."""
    counts = [text.count("!") for text in batch.responses]
    return Scores({COLUMN.name: pa.array(counts, COLUMN.type)})


METRIC = Metric("exclamations", version=1, columns=(COLUMN,), compute=compute)
