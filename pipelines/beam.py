"""The Beam pipeline, and the local runner."""

import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from curate.metric import Needs
from pipelines.directory import OutputDirectory
from pipelines.inputs import is_seekable
from pipelines.log import output_of_children
from pipelines.plan import Shard
from pipelines.progress import Meter
from pipelines.score import Job
from pipelines.transforms.measure import Measure
from pipelines.transforms.proxy import AskProxy, ProxyHandler
from pipelines.transforms.read import ReadShards
from pipelines.transforms.shards import ShardRun, shard_runs
from pipelines.transforms.write import WriteShards
from schemas.command import FAILED
from schemas.errors import UserError


class ScoreShards(beam.PTransform):
    """``ShardRun`` → index of each finished shard: read, ask the proxy, measure, write, in one fused chain."""

    def __init__(self, directory: OutputDirectory, job: Job, run: str) -> None:
        super().__init__()
        self.directory, self.job, self.run = directory, job, run

    def expand(self, runs: beam.PCollection[ShardRun]) -> beam.PCollection[int]:
        job, settings = self.job, self.job.settings
        meter = Meter(self.directory.live)
        batches = runs | ReadShards(job.format, settings.max_record_bytes)
        if job.weights is not None:
            handler = None
            if job.needs >= Needs.LOSS:
                unconditional = job.needs >= Needs.UNCONDITIONAL_LOSS
                handler = ProxyHandler(job.weights, settings.proxy, unconditional, meter)
            batches = batches | AskProxy(job.weights, settings.proxy, handler)
        names = tuple(metric.name for metric in job.metrics)
        return batches | Measure(names) | WriteShards(self.directory, job.schema, self.run, meter)


def run_locally(directory: OutputDirectory, job: Job, pending: Sequence[Shard], run: str) -> None:
    """Run on this machine, in this process or in ``workers`` processes."""
    # FnApiRunner by name: the default runner tries to download another one on every run and picks by what
    # the pipeline holds. Its multi-threading mode loses rows silently, so more than one worker means processes.
    workers = job.settings.workers
    options = PipelineOptions(
        [
            "--runner=FnApiRunner",
            f"--direct_num_workers={workers}",
            f"--direct_running_mode={'multi_processing' if workers > 1 else 'in_memory'}",
            "--default_sdk_harness_log_level=ERROR",
        ]
    )
    seekable = {shard.source for shard in pending if is_seekable(shard.source)}
    runs = shard_runs(pending, workers, seekable)
    pipeline = beam.Pipeline(options=options)
    elements = pipeline | beam.Create(runs, reshuffle=False)
    if workers > 1:
        # Spreads the runs over the workers in turn; only descriptors are shuffled, never rows.
        elements = elements | beam.Reshuffle()
    elements | ScoreShards(directory, job, run)
    try:
        with processes(workers, directory.worker_log) if workers > 1 else nullcontext():
            pipeline.run().wait_until_finish()
    except Exception as error:
        if said := user_error(str(error)):
            raise UserError(said) from error
        raise


@contextmanager
def processes(workers: int, log: Path) -> Iterator[None]:
    """The surroundings that worker processes are started in."""
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    surroundings = {
        # a user's own schemas/ or train/ in the working directory must not be found before ours
        "PYTHONSAFEPATH": "1",
        # workers share the cores: each would start a thread for every one of them
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
    }
    before = {name: os.environ.get(name) for name in surroundings}
    hook = threading.excepthook
    os.environ.update(surroundings)
    threading.excepthook = _worker_died
    try:
        with output_of_children(log):
            yield
    finally:
        threading.excepthook = hook
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _worker_died(failure: threading.ExceptHookArgs) -> None:
    """End the job: Beam notices in a side thread that a worker process is gone, and then waits for it for ever.

    At once and without tidying up, as a kill would: finished shards have receipts, and the lock goes with us.
    """
    threading.__excepthook__(failure)
    if "Worker subprocess exited" in str(failure.exc_value):
        found = UserError(
            "a worker process died",
            remedy="run the same command again, with fewer --workers if memory ran out; finished shards are kept",
        )
        print(f"curricle: {found}", file=sys.stderr, flush=True)
        os._exit(FAILED)


def user_error(traceback: str) -> str | None:
    """What a UserError said in a worker: runners hand on its traceback as text, and not the error."""
    last = re.search(r".*^[\w.]*(?:UserError|UsageError|DirectoryHeld): ", traceback, re.MULTILINE | re.DOTALL)
    return re.split(r" \[while running |\n\n", traceback[last.end() :])[0].strip() if last else None
