"""A dask.distributed cluster: each run of shards is one task, a whole Beam pipeline in the worker that gets it.

Not Beam's own DaskRunner, which loses tagged outputs and what is emitted at the end of a bundle without an error.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future as ThreadFuture
from contextlib import contextmanager
from itertools import islice
from queue import Empty, SimpleQueue

import dask
from curricle.pipelines.engines import LOOK_EVERY, MOST_RUNS_ELSEWHERE, Work
from curricle.pipelines.engines.errors import as_in_driver, knock, saying_why
from curricle.pipelines.engines.local import processes
from curricle.pipelines.processes.collector import pipeline_is_done, shard_is_done
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.receipts import is_done
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.transforms.shards import ShardRun
from curricle.schemas.common.errors import UserError
from dask.utils import parse_timedelta
from distributed import Client, Future, KilledWorker, LocalCluster

RETRIES = 2
"""How often a task that failed is tried again. One whose worker died is tried as often as the scheduler allows."""

MOST_TASKS = 1024
"""Given to the scheduler at a time, or four a worker if that is more: it and this process hold kilobytes for each."""

_OF_WORKERS = {
    "distributed.worker.daemon": False,  # they may have children: vLLM over several GPUs does
    "distributed.worker.profile.enabled": False,  # it keeps every stack of Beam's: 0.3 MB a task, for 1,000 s
}
_one_at_a_time = threading.Lock()


def run(work: Work) -> None:
    """Score on the cluster at ``--engine-address``, or on one of ``--workers`` processes that ends with the job."""
    settings = work.job.settings
    # what breaks there comes back as a future that failed
    for name in ("distributed", "distributed.client", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with _cluster(work) as client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        done: SimpleQueue[Future[None]] = SimpleQueue()
        futures: set[Future[None]] = set()
        runs = work.runs(max(1, workers), MOST_RUNS_ELSEWHERE)
        tasks = _tasks(runs, _shards_of_task(len(runs), workers) if work.job.asks_model else 1)

        def submit(count: int) -> None:
            for task in islice(tasks, count):
                future = client.submit(
                    score,
                    work.directory,
                    work.job,
                    work.run,
                    task,
                    key=f"curricle-{work.run}-{task[0].shards[0].index}",
                    retries=RETRIES,
                    resources=dict(settings.dask_resources) or None,
                    pure=False,
                )
                futures.add(future)
                future.add_done_callback(done.put)

        submit(max(MOST_TASKS, 4 * workers))
        while futures:
            try:
                future = done.get(timeout=LOOK_EVERY)
            except Empty:
                if client.status != "running":
                    raise _lost(settings) from None
                work.check()
                continue
            _look(future, settings)
            futures.discard(future)
            shard_is_done()
            submit(1)


def _shards_of_task(runs: int, workers: int) -> int:
    """Up to four for a model, of which three are rendered while it is busy; and four tasks or more for each worker."""
    return min(4, max(1, runs // (4 * max(1, workers))))


def _tasks(runs: Sequence[ShardRun], shards: int) -> Iterator[list[ShardRun]]:
    """Runs that are each a task; small ones together, up to so many shards, for it takes time to build a pipeline."""
    rows = shards * max(shard.slice.records for run in runs for shard in run.shards)
    task: list[ShardRun] = []
    for run in runs:
        task.append(run)
        if sum(shard.slice.records for run in task for shard in run.shards) >= rows:
            yield task
            task = []
    if task:
        yield task


def score(directory: OutputDirectory, job: Job, run: str, task: list[ShardRun]) -> None:
    """One task, or what a worker that died left of it.

    A worker with several threads takes tasks one after the other: they would share one model.
    """
    from curricle.pipelines.processes.log import quieten_beam
    from curricle.pipelines.transforms.score import pipeline

    quieten_beam()
    left = (tuple(shard for shard in part.shards if not is_done(directory, shard)) for part in task)
    runs = [ShardRun(shards) for shards in left if shards]
    with _one_at_a_time, saying_why():
        pipeline(["--runner=FnApiRunner"], directory, job, run, runs).run().wait_until_finish()
        pipeline_is_done()


@contextmanager
def _cluster(work: Work) -> Iterator[Client]:
    settings = work.job.settings
    if settings.engine_address:
        with _connected(settings.engine_address) as client:
            yield client
        return
    with (
        processes(work.job.workers, work.directory),
        dask.config.set(_OF_WORKERS),
        LocalCluster(
            n_workers=work.job.workers,
            threads_per_worker=1,
            host="127.0.0.1",
            memory_limit=None,
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
            resources=dict(settings.dask_resources) or None,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _connected(address: str) -> Client:
    """A client of the scheduler there; UserError if there is none: at once where nobody listens.

    dask would go on trying there, and wait for ever for what takes a connection and does not speak dask's protocol. A
    scheduler that is slow has as long as dask's own configuration gives it.
    """
    remedy = "start one with `dask scheduler`, and name it as tcp://HOST:PORT"
    protocol, separator, _ = address.rpartition("://")
    if not separator or protocol in ("tcp", "tls"):
        knock(address, "dask scheduler", remedy)
    seconds = parse_timedelta(dask.config.get("distributed.comm.timeouts.connect"))
    connecting: ThreadFuture[Client] = ThreadFuture()

    def connect() -> None:
        try:
            connecting.set_result(Client(address, timeout=seconds, set_as_default=False))
        except BaseException as error:  # raised again in the thread that waits for it
            connecting.set_exception(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        return connecting.result(timeout=seconds + 1)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no dask scheduler answers: {error or 'it takes a connection, and says nothing that dask understands'}, "
            f"tried for {seconds:g} s",
            where=address,
            remedy=f"{remedy}; a slow one is waited for longer with DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT=90s",
        ) from error


def _look(future: "Future[None]", settings: ScoreSettings) -> None:
    if future.status == "finished":
        return
    if future.status != "error":
        raise _lost(settings)
    error = future.exception()
    if isinstance(error, UserError):
        raise as_in_driver(error) from error
    if isinstance(error, KilledWorker):
        raise UserError(
            f"workers died, one after the other, on the same shards: {error}",
            where=str(settings.engine_address or "the local dask cluster"),
            remedy="look at the workers' logs; where memory runs out the kernel kills them: give them more, or "
            "a smaller --proxy.batch-tokens or --shard-rows",
        ) from error
    if isinstance(error, ModuleNotFoundError) or "deserializ" in str(error):
        raise UserError(
            f"the scheduler or a worker cannot import what the job needs: {error}",
            where=str(settings.engine_address),
            remedy="install curricle there, the same version with the same extras",
        ) from error
    raise error


def _lost(settings: ScoreSettings) -> UserError:
    return UserError(
        "the dask scheduler is gone, or gave the job up",
        where=str(settings.engine_address or "the local dask cluster"),
        remedy="start it again; the same command then goes on from the finished shards",
    )
