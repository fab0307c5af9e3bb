"""Run the metrics over a batch."""

from dataclasses import replace

import apache_beam as beam

from curate.metric import Metric
from curate.metrics import select
from pipelines.transforms.shards import ShardBatch


class Measure(beam.PTransform):
    """``ShardBatch`` → ``ShardBatch`` with the columns of the named metrics."""

    def __init__(self, metrics: tuple[str, ...]) -> None:
        super().__init__()
        self.metrics = metrics

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        return batches | beam.Map(measure, self.metrics)


def measure(element: ShardBatch, names: tuple[str, ...]) -> ShardBatch:
    """Every metric's columns and notes, in the metrics' order."""
    scores, notes = list(element.scores), list(element.notes)
    for metric in select(names):
        result = metric.compute(element.batch)
        _check(metric, result.columns, len(element.batch))
        scores += [(column.name, result.columns[column.name]) for column in metric.columns]
        notes += [(row, text) for row, texts in result.notes.items() for text in texts]
    return replace(element, scores=tuple(scores), notes=tuple(notes))


def _check(metric: Metric, columns, rows: int) -> None:
    expected = {column.name: column.type for column in metric.columns}
    assert columns.keys() == expected.keys(), f"metric {metric.name} returned {sorted(columns)}, not {sorted(expected)}"
    for name, array in columns.items():
        assert len(array) == rows, f"metric {metric.name}: {name} has {len(array)} values for {rows} rows"
        assert array.type == expected[name], f"metric {metric.name}: {name} is {array.type}, not {expected[name]}"
