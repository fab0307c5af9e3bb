"""Conversations as the proxy reads them, inside Beam."""

from collections.abc import Iterator

import apache_beam as beam
from curricle.curate.batch import Batch
from curricle.curate.metric import Metric, passes_of
from curricle.curate.metrics import MetricReference, load
from curricle.curate.passes import fill
from curricle.curate.passes.models import Models
from curricle.pipelines.transforms.shards import Portion, ShardBatch


class Render(beam.PTransform[beam.PCollection[ShardBatch], beam.PCollection[ShardBatch]]):
    """``ShardBatch`` → ``ShardBatch`` with the answers of the renderer: token ids and response spans."""

    def __init__(self, metrics: tuple[MetricReference | Metric, ...], models: Models) -> None:
        super().__init__()
        self.metrics, self.models = metrics, models

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        return batches | beam.ParDo(RenderShard(self.metrics, self.models))


class RenderShard(beam.DoFn):
    def __init__(self, metrics: tuple[MetricReference | Metric, ...], models: Models) -> None:
        self.references, self.models = metrics, models

    def setup(self) -> None:
        self.metrics = load(self.references)
        self.renderer = self.models.load("renderer")

    def process(self, element: ShardBatch) -> Iterator[ShardBatch]:
        yield self.rendered(element)

    def rendered(self, element: ShardBatch) -> ShardBatch:
        return element.with_batches(self._rendered)

    def _rendered(self, portion: Portion) -> Batch:
        passes = passes_of((each for each in self.metrics if each.name in portion.metrics), "renderer")
        return fill(passes, portion.batch, self.renderer, lambda done: None)
