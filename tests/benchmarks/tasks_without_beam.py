"""Loaded by dask workers that are to take as little as possible.

A task's shards are read, measured and written, without the Beam pipeline around it, which takes a tenth of a second.
"""

from functools import cache

from curricle.pipelines.engines import dask
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.meter import Meter
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.transforms.measure import _Measure
from curricle.pipelines.transforms.read import read_run
from curricle.pipelines.transforms.shards import ShardRun
from curricle.pipelines.transforms.write import ShardWriter


@cache
def meter(directory: OutputDirectory, run: str) -> Meter:
    return Meter(directory, run)


def score(directory: OutputDirectory, job: Job, run: str, task: list[ShardRun]) -> None:
    measure = _Measure(job.references)
    measure.setup()
    writer = ShardWriter(directory, job.schema, run, meter(directory, run))
    for part in task:
        for batch in read_run(job, part):
            for each in measure.process(batch):
                writer.write(each)


dask.score = score
