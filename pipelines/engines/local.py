"""This machine: Beam's local runner, in this process or in several."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pipelines.engines import Work
from pipelines.engines.errors import saying_why
from pipelines.log import output_of_children
from pipelines.transforms.score import pipeline
from schemas.command import FAILED
from schemas.errors import UserError

log = logging.getLogger("curricle")


def run(work: Work) -> None:
    """Score in this process, or in ``--workers`` processes."""
    # FnApiRunner by name: the default runner tries to download another one on every run and picks by what
    # the pipeline holds. Its multi-threading mode loses rows silently, so more than one worker means processes.
    workers = work.job.settings.workers
    options = ["--runner=FnApiRunner", "--default_sdk_harness_log_level=ERROR"]
    if workers > 1:
        options += ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    surroundings = processes(workers, work.directory.worker_log) if workers > 1 else nullcontext()
    with surroundings, saying_why():
        pipeline(options, work.directory, work.job, work.run, work.runs(workers)).run().wait_until_finish()


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
        log.error("curricle: %s", found)
        os._exit(FAILED)
