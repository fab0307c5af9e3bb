"""This machine: Beam's local runner, in this process or in several."""

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

from curricle.curate.proxy import devices
from curricle.pipelines.engines import LOOK_EVERY, Work
from curricle.pipelines.engines.errors import saying_why
from curricle.pipelines.processes.collector import as_before
from curricle.pipelines.processes.cores import cores
from curricle.pipelines.processes.fork_server import ForkServer
from curricle.pipelines.processes.log import output_of_children
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.schemas.common import stop
from curricle.schemas.common.command import FAILED
from curricle.schemas.common.errors import UserError

log = logging.getLogger("curricle")

WORKER = "apache_beam.runners.worker.sdk_worker_main"
"""What Beam's own workers run: its ``main`` reads what is theirs from the environment."""

MANY = 1 << 23
"""Bytes of text, or rows where records are no text, of a job for which compiled loops are worth their memory."""

GRACE, GRACE_ON_REQUEST = 3.0, 30.0
"""Seconds in which a signal that has ended a worker may still reach this process, which is sent it too. It may be busy:
after a signal that asks a worker to end, which is seldom meant for that worker alone, there is time to wait."""

_ON_REQUEST = {code for number in (signal.SIGTERM, signal.SIGINT) for code in (-number, 128 + number)}
"""Return codes of workers that were asked to end, and of the shells around them."""


@contextmanager
def workers_ahead(job: Job) -> Iterator[ForkServer | None]:
    """The server that forks ``--workers``, on Linux: elsewhere libraries of the system may have threads that a fork
    lacks. It imports what they need from now on.
    """
    if job.workers == 1 or sys.platform != "linux":
        yield None
        return
    server = ForkServer(WORKER, _libraries(job), {**os.environ, **_threads(job.workers)})
    try:
        yield server
    finally:
        server.close()


def run(work: Work) -> None:
    """Score in this process, or in ``--workers`` processes, which start by themselves where no server forks them."""
    runs = work.runs(work.job.workers)
    workers = min(work.job.workers, len(runs)) if work.job.settings.workers == "auto" else work.job.workers
    surroundings = processes(workers, work.directory) if workers > 1 else devices.seen_by_children()
    with as_before(), surroundings, ended_when_stalled(work.check), saying_why():
        from curricle.pipelines.engines import runner  # Beam: meanwhile the server imports it, too

        if workers == 1 and sum(shard.slice.stop - shard.slice.start for shard in work.pending) > MANY:
            for name in _compiled(work.job):
                import_module(name)
        try:
            runner.run(work, runs, workers)
        finally:
            if work.server:
                work.server.close()  # here: what it has printed belongs into the workers' log


def _libraries(job: Job) -> Iterator[str]:
    """What workers will import, but for torch, which has threads that a fork would lack."""
    yield "curricle.pipelines.transforms.score"
    if job.roles:
        yield "transformers"
    yield from _compiled(job)


def _compiled(job: Job) -> Iterator[str]:
    """Compiled loops, which a process loads by itself when it has seen much text: here they may be there from the first
    row.
    """
    if any(each.name == "mtld" for each in job.references):
        yield "curricle.curate.metrics.mtld_kernel"


@contextmanager
def ended_when_stalled(check: Callable[[], None]) -> Iterator[None]:
    """End the job, as a kill would, when nothing moves any more: this process waits inside Beam and cannot look."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_EVERY):
            try:
                check()
            except UserError as error:
                log.error("curricle: %s", error)
                os._exit(FAILED)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def processes(workers: int, directory: OutputDirectory) -> Iterator[None]:
    """The surroundings that worker processes are started in."""
    # a user's own schemas/ or train/ in the working directory must not be found before ours
    surroundings = {"PYTHONSAFEPATH": "1", **_threads(workers)}
    before = {name: os.environ.get(name) for name in surroundings}
    hook = threading.excepthook
    os.environ.update(surroundings)
    try:
        with directory.worker_log() as path, output_of_children(path):
            threading.excepthook = partial(_worker_died, path)
            yield
    finally:
        if not stop.requested.is_set():  # workers that were stopped with us still end, and are no surprise
            threading.excepthook = hook
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _threads(workers: int) -> dict[str, str]:
    """Workers share the cores: each would start a thread for every one of them. Those of OpenMP, and of tokenizers."""
    threads = str(max(1, cores() // workers))
    return {name: os.environ.get(name, threads) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")}


def _worker_died(printed: Path, failure: threading.ExceptHookArgs) -> None:
    """End the job: Beam notices in a side thread that a worker process is gone, and then waits for it for ever.

    At once and without tidying up, as a kill would: finished shards have receipts. One that was asked to stop together
    with this process is no surprise.
    """
    ended = re.search(r"Worker subprocess exited with return code (-?\d+)", str(failure.exc_value))
    # the closed channel of a worker that ended shows in a thread of its own, which does not know how it ended
    if stop.requested.wait(GRACE if ended and int(ended[1]) not in _ON_REQUEST else GRACE_ON_REQUEST):
        return
    threading.__excepthook__(failure)
    if ended:
        killed = int(ended[1]) in (-signal.SIGKILL, 128 + signal.SIGKILL)
        how = ": it was killed (SIGKILL), as the kernel does where memory runs out" if killed else ""
        error = UserError(
            f"a worker process died{how}; what it printed is in {printed}",
            remedy="run the same command again, if memory ran out with fewer --workers or a smaller "
            "--proxy.batch-tokens; finished shards are kept",
        )
        log.error("curricle: %s", error)
        os._exit(FAILED)
