"""The whole chain: what every engine runs."""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.meter import Meter
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.transforms.coder import ShardBatchCoder
from curricle.pipelines.transforms.measure import Measure
from curricle.pipelines.transforms.prefetch import Prefetch
from curricle.pipelines.transforms.read import ReadShards
from curricle.pipelines.transforms.render import Render
from curricle.pipelines.transforms.shards import ShardBatch, ShardRun
from curricle.pipelines.transforms.write import WriteShards

beam.coders.registry.register_coder(ShardBatch, ShardBatchCoder)


class ScoreShards(beam.PTransform[beam.PCollection[ShardRun], beam.PCollection[int]]):
    """``ShardRun`` → index of each finished shard: read, ask the models, measure, write, in one fused chain."""

    def __init__(self, directory: OutputDirectory, job: Job, run: str) -> None:
        super().__init__()
        self.directory, self.job, self.run = directory, job, run

    def expand(self, runs: beam.PCollection[ShardRun]) -> beam.PCollection[int]:
        job, meter = self.job, Meter(self.directory, self.run)
        if job.asks_model:
            from curricle.pipelines.transforms.inference import Ask  # takes a while: only where a model is asked

            batches = runs | Prefetch(job)
            for role in job.roles:
                if role != "renderer":
                    batches = batches | Ask(role, job, meter)
        else:
            batches = runs | ReadShards(job)
            if job.roles:
                batches = batches | Render(job)
        return batches | Measure(job.references) | WriteShards(self.directory, job.schema, self.run, meter)


def pipeline(
    options: Sequence[str], directory: OutputDirectory, job: Job, run: str, runs: Sequence[ShardRun]
) -> beam.Pipeline:
    """A pipeline that scores these runs, with Beam's options for the engine, ready to be started."""
    pipeline = beam.Pipeline(options=PipelineOptions(list(options)))
    # The reshuffle spreads the runs over the workers; only descriptors are shuffled, never rows.
    pipeline | beam.Create(list(runs), reshuffle=False) | beam.Reshuffle() | ScoreShards(directory, job, run)
    return pipeline
