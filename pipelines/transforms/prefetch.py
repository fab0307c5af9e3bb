"""The shard after the one that a model is busy with: read and rendered in a thread meanwhile."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue
from curricle.curate.proxy import devices
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.transforms.read import read_run
from curricle.pipelines.transforms.render import RenderShard
from curricle.pipelines.transforms.shards import ShardBatch, ShardRun


class Prefetch(beam.PTransform[beam.PCollection[ShardRun], beam.PCollection[ShardBatch]]):
    """``ShardRun`` → ``ShardBatch`` with the answers of the renderer, in order, for the models that come after it.

    A fused chain takes one element to its end before it takes the next. So this hands on each shard when the next one
    comes, or the bundle ends, and a thread prepares that one while the chain is busy: one shard ahead, never more.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    def expand(self, runs: beam.PCollection[ShardRun]) -> beam.PCollection[ShardBatch]:
        return runs | beam.ParDo(_Prefetch(self.job))


class _Prefetch(beam.DoFn):
    def __init__(self, job: Job) -> None:
        self.job = job
        self.render = RenderShard(job) if "renderer" in job.roles else None

    def setup(self) -> None:
        devices.stay_untouched()
        if self.render:
            self.render.setup()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")

    def start_bundle(self) -> None:
        self.next: Future[tuple[ShardBatch, float]] | None = None

    def process(self, run: ShardRun) -> Iterator[ShardBatch]:
        shards = self._prepared(run)
        for _ in run.shards:
            ready = self._take()
            self.next = self.thread.submit(next, shards)
            if ready:
                yield ready

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if ready := self._take():
            yield GlobalWindows.windowed_value(ready)

    def teardown(self) -> None:
        self.thread.shutdown(cancel_futures=True)

    def _take(self) -> ShardBatch | None:
        """The shard in the making, or the error that it ended with, when it is due; none at the start."""
        if not self.next:
            return None
        (ready, seconds), self.next = self.next.result(), None
        # what it waited for the one before it is no time of its own
        return replace(ready, started=time.monotonic() - seconds)

    def _prepared(self, run: ShardRun) -> Iterator[tuple[ShardBatch, float]]:
        """The shards of a run, and how many seconds it took to read and render each."""
        for batch in read_run(self.job, run):
            ready = self.render.rendered(batch) if self.render else batch
            yield ready, time.monotonic() - batch.started
