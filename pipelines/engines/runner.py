"""Beam's local runner, and how it starts workers."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
from apache_beam.portability import python_urns
from apache_beam.portability.api import endpoints_pb2
from apache_beam.runners.portability import local_job_service
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from curricle.pipelines.engines import Work
from curricle.pipelines.processes.fork_server import ForkServer
from curricle.pipelines.transforms.score import pipeline
from curricle.pipelines.transforms.shards import ShardRun
from curricle.schemas.common.command import FAILED
from google.protobuf import json_format, text_format


def run(work: Work, runs: Sequence[ShardRun], workers: int) -> None:
    """Score the runs in this process, or in so many that the server forks, or that start by themselves."""
    # FnApiRunner by name: the default runner tries to download another one on every run and picks by what
    # the pipeline holds. Its multi-threading mode loses rows silently, so more than one worker means processes.
    options = ["--runner=FnApiRunner", "--default_sdk_harness_log_level=ERROR"]
    if workers > 1:
        options += ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    with ExitStack() as stack:
        stack.enter_context(on_loopback())
        if work.server and workers > 1:
            stack.enter_context(_forked(work.server))
        pipeline(options, work.directory, work.job, work.run, runs).run().wait_until_finish()


@contextmanager
def on_loopback() -> Iterator[None]:
    """Beam's runner and its workers talk through ports without a password, and would bind them on every interface."""

    def server(*arguments: Any, **options: Any) -> grpc.Server:
        proxy = grpc.server(*arguments, **options)
        bind = proxy.add_insecure_port
        proxy.add_insecure_port = lambda address: bind(address.replace("[::]", "127.0.0.1"))  # type: ignore[method-assign]
        return proxy

    class Grpc:
        def __getattr__(self, name: str) -> Any:
            return server if name == "server" else getattr(grpc, name)

    modules = (worker_handlers, local_job_service)
    for module in modules:
        vars(module)["grpc"] = Grpc()
    try:
        yield
    finally:
        for module in modules:
            vars(module)["grpc"] = grpc


@contextmanager
def _forked(server: ForkServer) -> Iterator[None]:
    """Workers are forked, where Beam would start a Python for each that imports everything again."""

    class Forked(worker_handlers.SubprocessSdkWorkerHandler):
        def start_worker(self) -> None:
            self.worker_thread = threading.Thread(name="run_worker", target=self._run)
            self.worker_thread.start()

        def _run(self) -> None:
            options = self.provision_info.provision_info.pipeline_options
            control = text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=self.control_address))
            beams = {"CONTROL_API_SERVICE_DESCRIPTOR": control, "WORKER_ID": self.worker_id}
            beams["PIPELINE_OPTIONS"] = json_format.MessageToJson(options)
            try:
                code = server.run({**os.environ, **beams})
            except OSError as error:  # no descriptor is left, say; nobody would hear of it in this thread
                raise RuntimeError(f"Worker subprocess exited with return code {FAILED}") from error
            if code:
                raise RuntimeError(f"Worker subprocess exited with return code {code}")

    def start(by: type[worker_handlers.WorkerHandler]) -> None:
        worker_handlers.WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(by)

    start(Forked)
    try:
        yield
    finally:
        start(worker_handlers.SubprocessSdkWorkerHandler)
