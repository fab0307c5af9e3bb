"""A unit vector for each conversation: what clusters and representative rows stand on."""

import numpy as np
import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.embedding.text import FORM
from curricle.curate.metric import Metric
from curricle.schemas.columns import ScoreColumn

# Not a list of fixed size: pyarrow writes the nulls of one to Parquet, and cannot read them again.
VECTOR = pa.list_(pa.field("element", pa.float32()))
COLUMNS = (ScoreColumn("embedding", VECTOR, "unit vector", "sentence embedding of the conversation"),)


def metric(pooling: str, max_length: int, dimensions: int, text: str = FORM) -> Metric:
    """The metric for an encoder that pools so, reads so many tokens, and gives vectors of so many dimensions."""
    params = {"pooling": pooling, "max_length": max_length, "dimensions": dimensions, "text": text}
    return Metric("embedding", 2, COLUMNS, compute, params=params)


def compute(batch: Batch) -> Scores:
    """The encoder's vectors; null with a note where there is none, and a note where a text was cut."""
    assert batch.embedded is not None
    vectors, notes = batch.embedded.vectors, batch.embedded.notes
    missing = np.isnan(vectors).any(axis=1)
    offsets = np.cumsum([0, *np.where(missing, 0, vectors.shape[1])], dtype=np.int32)
    array = pa.ListArray.from_arrays(offsets, vectors[~missing].ravel(), VECTOR, mask=pa.array(missing))
    return Scores({"embedding": array}, {row: [f"embedding: {note}"] for row, note in notes.items()})
