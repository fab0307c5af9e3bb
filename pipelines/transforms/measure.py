"""Run the metrics over a batch."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pyarrow as pa
from curricle.curate.metric import Metric, measure, passes_of
from curricle.curate.metrics import MetricReference, load
from curricle.pipelines.processes.collector import leave_libraries_alone, shard_is_done
from curricle.pipelines.scoring.stored import RowScores
from curricle.pipelines.transforms.shards import ShardBatch


class Measure(beam.PTransform[beam.PCollection[ShardBatch], beam.PCollection[ShardBatch]]):
    """``ShardBatch`` → ``ShardBatch`` with the columns of the metrics, which must be the same here as in the driver.

    What is copied and what is computed stand together, values and notes in the metrics' order.
    """

    def __init__(self, metrics: tuple[MetricReference | Metric, ...]) -> None:
        super().__init__()
        self.metrics = metrics

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        return batches | beam.ParDo(_Measure(self.metrics))


class _Measure(beam.DoFn):
    def __init__(self, metrics: tuple[MetricReference | Metric, ...]) -> None:
        self.references = metrics

    def setup(self) -> None:
        self.metrics = load(self.references)
        leave_libraries_alone(any(each.model != "renderer" for each in passes_of(self.metrics)))

    def process(self, element: ShardBatch) -> Iterator[ShardBatch]:
        columns: list[tuple[str, pa.Array]] = []
        notes = list(element.notes)
        for metric in self.metrics:
            parts = [each for name, each in element.copied if name == metric.name]
            for portion in element.portions:
                if metric.name in portion.metrics:
                    scores = measure(portion.batch, [metric])
                    texts = [scores.notes.get(row, ()) for row in range(len(portion.rows))]
                    parts.append(RowScores(portion.rows, scores.columns, texts))
            columns += [(column.name, _whole(parts, column.name)) for column in metric.columns]
            for part in parts:
                texts_of = zip(part.rows.tolist(), part.notes, strict=True)
                notes += [(row, text) for row, texts in texts_of for text in texts]
        yield replace(element, scores=tuple(columns), notes=tuple(notes))
        shard_is_done()


def _whole(parts: Sequence[RowScores], column: str) -> pa.Array | pa.ChunkedArray:
    """A value of the column for every row of a shard."""
    if len(parts) == 1:
        return parts[0].columns[column]
    arrays = [part.columns[column] for part in parts]
    chunks = [chunk for array in arrays for chunk in (array.chunks if isinstance(array, pa.ChunkedArray) else [array])]
    return pa.concat_arrays(chunks).take(pa.array(np.argsort(np.concatenate([part.rows for part in parts]))))
