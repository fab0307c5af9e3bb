"""Run the metrics over a batch."""

import gc
from collections.abc import Iterator
from functools import cache

import apache_beam as beam
from curricle.curate.metric import Metric, measure
from curricle.curate.metrics import MetricReference, load
from curricle.pipelines.transforms.shards import ShardBatch


class Measure(beam.PTransform[beam.PCollection[ShardBatch], beam.PCollection[ShardBatch]]):
    """``ShardBatch`` → ``ShardBatch`` with the columns of the metrics, which must be the same here as in the driver."""

    def __init__(self, metrics: tuple[MetricReference | Metric, ...]) -> None:
        super().__init__()
        self.metrics = metrics

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        return batches | beam.ParDo(_Measure(self.metrics))


class _Measure(beam.DoFn):
    def __init__(self, metrics: tuple[MetricReference | Metric, ...]) -> None:
        self.references = metrics

    def setup(self) -> None:
        _leave_libraries_alone()
        self.metrics = load(self.references)

    def process(self, element: ShardBatch) -> Iterator[ShardBatch]:
        yield element.with_scores(measure(element.batch, self.metrics))


@cache
def _leave_libraries_alone() -> None:
    """Take what is loaded by now out of the garbage collector's rounds, once in a process.

    They are a tenth of the time of cheap metrics, and most of a second when a worker ends: Beam loads 300,000 objects.
    """
    gc.freeze()
