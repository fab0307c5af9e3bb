"""Conversations as the proxy reads them, inside Beam."""

from collections.abc import Iterator

import apache_beam as beam
from curricle.curate.batch import Batch
from curricle.curate.metric import passes_of
from curricle.curate.metrics import load
from curricle.curate.passes import fill
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.transforms.shards import Portion, ShardBatch


class Render(beam.PTransform[beam.PCollection[ShardBatch], beam.PCollection[ShardBatch]]):
    """``ShardBatch`` → ``ShardBatch`` with the answers of the renderer: token ids and response spans."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.worker = RenderShard(job)

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        return batches | beam.ParDo(self.worker)


class RenderShard(beam.DoFn):
    def __init__(self, job: Job) -> None:
        self.references, self.models = job.references, job.models

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
