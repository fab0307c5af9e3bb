"""Engines behind Beam's own runners: any job service, Flink, Spark and Dataflow.

Every option of Beam's is passed on as ``--beam.NAME VALUE``. The workers need curricle in their environment, and an
input and an output that they reach.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.portable_runner import JobServiceHandle, PortableRunner
from apache_beam.runners.runner import PipelineState
from curricle.pipelines.engines import LOOK_EVERY, MOST_RUNS_ELSEWHERE, Work
from curricle.pipelines.engines.errors import knock, saying_why, user_error
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.transforms.score import pipeline
from curricle.schemas.common.errors import UserError

RUNNERS = {
    "portable": ("PortableRunner", "job_endpoint"),
    "flink": ("FlinkRunner", "flink_master"),
    "spark": ("SparkRunner", "spark_master_url"),
    "dataflow": ("DataflowRunner", None),
}

log = logging.getLogger("curricle")


def pipeline_options(settings: ScoreSettings) -> list[str]:
    """Beam's options for the engine that the settings name."""
    runner, address = RUNNERS[settings.engine]
    endpoint = {address: settings.engine_address} if address else {}
    # a switch of Beam's takes no value, and is left out where it is off
    options = (
        f"--{name}" if value.lower() == "true" else f"--{name}={value}"
        for name, value in {**endpoint, **settings.beam}.items()
        if value and value.lower() != "false"
    )
    return [f"--runner={runner}", *options]


class _Handle(JobServiceHandle):  # type: ignore[misc]
    """Hears of a job as long as it runs. Beam's own hangs up after ``--job_server_timeout``, five minutes, which is for
    single requests, where a job has the id of its preparation, as with Beam's job service in Python and with Prism.
    """

    def run(self, preparation_id: str) -> Any:
        self.timeout = None
        return super().run(preparation_id)


class _Runner(PortableRunner):  # type: ignore[misc]
    def create_job_service_handle(self, job_service: Any, options: PipelineOptions) -> JobServiceHandle:
        return _Handle(job_service, options)


def run(work: Work) -> None:
    """Hand the job to the engine, and wait for it as long as something moves.

    Beam waits for ever for a worker that has died at its start, so this does not: see ``Work.check``.
    """
    settings = work.job.settings
    if settings.engine == "portable":
        knock(str(settings.engine_address), "job service", "start it, and name it as HOST:PORT")
    runs = work.runs(work.job.workers, MOST_RUNS_ELSEWHERE)
    try:
        beam_pipeline = pipeline(pipeline_options(settings), work.directory, work.job, work.run, runs)
    except ValueError as error:  # Beam's validation, which knows what its runner needs
        raise UserError(str(error), where=f"--engine {settings.engine}", remedy="mend the --beam.… options") from error
    if settings.engine == "portable":
        beam_pipeline.runner = _Runner()
    with saying_why(), _plainly(settings), _quiet_threads():
        result = beam_pipeline.run()
        ended: list[Any] = []
        waiting = threading.Thread(target=_wait, args=(result, ended), daemon=True)
        waiting.start()
        try:
            while waiting.is_alive():
                waiting.join(LOOK_EVERY)
                work.check()
        except BaseException:
            with suppress(Exception):  # what made us cancel is the news
                result.cancel()
            raise
        if isinstance(ended[0], Exception):
            raise ended[0]
        if ended[0] != PipelineState.DONE:
            raise RuntimeError(f"it ended as {ended[0]}")


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Beam's own threads lose the job service when we do, which is said once, and not by a traceback of each.

    They may notice it later than we do, so that after a failure it stays so.
    """
    hook = threading.excepthook
    threading.excepthook = lambda failure: None if isinstance(failure.exc_value, grpc.RpcError) else hook(failure)
    yield
    threading.excepthook = hook


@contextmanager
def _plainly(settings: ScoreSettings) -> Iterator[None]:
    """What an engine says of a job that failed for another reason than a UserError in a worker."""
    try:
        yield
    except (RuntimeError, grpc.RpcError) as error:
        if user_error(str(error)):
            raise
        log.debug("the job's failure", exc_info=True)
        reason = error.details() if isinstance(error, grpc.Call) else str(error).strip().rpartition("\n")[2]
        raise UserError(
            f"the {settings.engine} job failed: {reason}",
            where=settings.engine_address,
            remedy="look at the logs of the engine and its workers; the same command goes on from the finished shards",
        ) from error


def _wait(result: Any, ended: list[Any]) -> None:
    try:
        ended.append(result.wait_until_finish())
    except Exception as error:  # handed to the thread that waits for this one
        ended.append(error)
