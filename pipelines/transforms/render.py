"""Conversations as the proxy reads them, inside Beam."""

from collections.abc import Iterator

import apache_beam as beam
from curricle.curate.metric import Metric, passes_of
from curricle.curate.metrics import MetricReference, load
from curricle.curate.passes import fill
from curricle.curate.passes.models import Models
from curricle.pipelines.transforms.shards import ShardBatch


class Render(beam.PTransform[beam.PCollection[ShardBatch], beam.PCollection[ShardBatch]]):
    """``ShardBatch`` → ``ShardBatch`` with the answers of the renderer: token ids and response spans."""

    def __init__(self, metrics: tuple[MetricReference | Metric, ...], models: Models) -> None:
        super().__init__()
        self.metrics, self.models = metrics, models

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        return batches | beam.ParDo(_Render(self.metrics, self.models))


class _Render(beam.DoFn):
    def __init__(self, metrics: tuple[MetricReference | Metric, ...], models: Models) -> None:
        self.metrics, self.models = metrics, models

    def setup(self) -> None:
        self.passes = passes_of(load(self.metrics), "renderer")
        self.renderer = self.models.load("renderer")

    def process(self, element: ShardBatch) -> Iterator[ShardBatch]:
        yield element.with_batch(fill(self.passes, element.batch, self.renderer, lambda done: None))
