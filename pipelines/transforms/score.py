"""The whole chain: what every engine runs."""

from collections.abc import Sequence
from dataclasses import replace

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from curricle.curate.metric import Needs
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.meter import Meter
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.transforms.embedding import Embed, Encoding
from curricle.pipelines.transforms.measure import Measure
from curricle.pipelines.transforms.proxy import Proxy, Render
from curricle.pipelines.transforms.read import ReadShards
from curricle.pipelines.transforms.shards import ShardRun
from curricle.pipelines.transforms.write import WriteShards


class ScoreShards(beam.PTransform):
    """``ShardRun`` → index of each finished shard: read, ask the proxy, measure, write, in one fused chain."""

    def __init__(self, directory: OutputDirectory, job: Job, run: str) -> None:
        super().__init__()
        self.directory, self.job, self.run = directory, job, run

    def expand(self, runs: beam.PCollection[ShardRun]) -> beam.PCollection[int]:
        job, settings = self.job, self.job.settings
        meter = Meter(self.directory, self.run)
        batches = runs | ReadShards(job.format, job.readers, settings.max_record_bytes, job.cwd)
        # Modules that import torch, for seconds in each worker, are imported where a model is asked for anything.
        if job.weights is not None:
            proxy = Proxy(job.weights, settings.proxy, job.host)
            batches = batches | Render(proxy)
            if job.needs >= Needs.LOSS or job.generates:
                from curricle.pipelines.transforms.inference import AskProxy

                names = settings.proxy.checkpoints[1:]
                later = [
                    replace(proxy, weights=weights, settings=replace(proxy.settings, model=name))
                    for name, weights in zip(names, job.later, strict=True)
                ]
                batches = batches | AskProxy(proxy, later, job.needs, job.generates, meter)
        if job.encoder is not None:
            batches = batches | Embed(Encoding(job.encoder, settings.encoder, settings.embedding, job.host), meter)
        return batches | Measure(job.identity["metrics"]) | WriteShards(self.directory, job.schema, self.run, meter)


def pipeline(
    options: Sequence[str], directory: OutputDirectory, job: Job, run: str, runs: Sequence[ShardRun]
) -> beam.Pipeline:
    """A pipeline that scores these runs, with Beam's options for the engine, ready to be started."""
    made = beam.Pipeline(options=PipelineOptions(list(options)))
    # The reshuffle spreads the runs over the workers; only descriptors are shuffled, never rows.
    made | beam.Create(list(runs), reshuffle=False) | beam.Reshuffle() | ScoreShards(directory, job, run)
    return made
