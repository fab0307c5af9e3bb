"""A unit vector for each conversation: what clusters and representative rows stand on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.embedding import weights
from curricle.curate.embedding.text import FORM
from curricle.curate.metric import Metric, MetricFactory
from curricle.curate.passes import EMBEDDING
from curricle.curate.passes.models import Models
from curricle.schemas.columns import ScoreColumn

# Not a list of fixed size: pyarrow writes the nulls of one to Parquet, and cannot read them again.
VECTOR = pa.list_(pa.field("element", pa.float32()))
COLUMNS = (ScoreColumn("embedding", VECTOR, "unit vector", "sentence embedding of the conversation"),)


def metric(pooling: str, max_length: int, dimensions: int, text: str = FORM) -> Metric:
    """The metric for an encoder that pools so, reads so many tokens, and gives vectors of so many dimensions."""
    params = {"pooling": pooling, "max_length": max_length, "dimensions": dimensions, "text": text}
    return Metric("embedding", 2, COLUMNS, compute, frozenset({EMBEDDING}), params)


def parameters(models: Models, options: Mapping[str, Any]) -> dict[str, Any]:
    """What ``metric`` is made from, as the encoder's files say. UsageError if it cannot do what is asked."""
    return {**weights.parameters(models.weights("encoder"), models.embedding), **options}


def compute(batch: Batch) -> Scores:
    """The encoder's vectors; null with a note where there is none, and a note where a text was cut."""
    embedded = EMBEDDING.of(batch)
    vectors, notes = embedded.vectors, embedded.notes
    missing = np.isnan(vectors).any(axis=1)
    offsets = np.cumsum([0, *np.where(missing, 0, vectors.shape[1])], dtype=np.int32)
    array = pa.ListArray.from_arrays(offsets, vectors[~missing].ravel(), VECTOR, mask=pa.array(missing))
    return Scores({"embedding": array}, {row: [f"embedding: {note}"] for row, note in notes.items()})


METRIC = MetricFactory("embedding", parameters, metric)
