"""Real engines on loopback, each process of its own: a dask cluster, and a Beam job service with worker pools."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from running import command

PATIENCE = 600.0
ENVIRONMENT = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}


@dataclass
class Dask:
    """A scheduler and its workers; any of them may be killed."""

    folder: Path
    processes: list[subprocess.Popen] = field(default_factory=list)

    @property
    def address(self) -> str:
        return json.loads((self.folder / "scheduler.json").read_text())["address"]

    @property
    def options(self) -> tuple[str, ...]:
        return "--engine", "dask", "--engine-address", self.address

    def start(self, workers: int) -> None:
        self.folder.mkdir(exist_ok=True)
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        common = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]
        self.scheduler = self._start("distributed.cli.dask_scheduler", *common, "--port", "0")
        until_true(file.exists, "the dask scheduler starts")
        self.worker = self._start(
            "distributed.cli.dask_worker", *common, "--nworkers", str(workers), "--nthreads", "1", "--memory-limit", "0"
        )

    def _start(self, module: str, *arguments: str) -> subprocess.Popen:
        with (self.folder / f"{module}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process


@contextlib.contextmanager
def dask_cluster(folder: Path, workers: int = 2) -> Iterator[Dask]:
    cluster = Dask(folder)
    try:
        cluster.start(workers)
        yield cluster
    finally:
        end(cluster.processes)


@contextlib.contextmanager
def beam_service(folder: Path, pools: int = 2) -> Iterator[tuple[str, ...]]:
    """The options that lead to a job service which spreads its work over ``pools`` worker pools."""
    folder.mkdir(exist_ok=True)
    processes: list[subprocess.Popen] = []

    def run(name: str, arguments: list[str], pattern: str) -> str:
        log = folder / f"{name}.log"
        with log.open("wb") as file:
            processes.append(
                subprocess.Popen(
                    arguments, stdout=file, stderr=subprocess.STDOUT, env=ENVIRONMENT, start_new_session=True
                )
            )
        (folder / f"{name}.pid").write_text(str(processes[-1].pid))
        until_true(lambda: re.search(pattern, log.read_text()), f"{name} starts")
        return re.search(pattern, log.read_text())[1]

    try:
        addresses = [
            run(f"pool-{index}", command("workers", "--port", 0), r"environment_config=(\S+)") for index in range(pools)
        ]
        service = [sys.executable, str(Path(__file__).with_name("job_service.py")), *addresses]
        port = run("service", service, r"job service: (\d+)\npools: \d+")
        router = re.search(r"pools: (\d+)", (folder / "service.log").read_text())[1]
        yield (
            *("--engine", "portable", "--engine-address", f"localhost:{port}"),
            *("--beam.environment_type", "EXTERNAL", "--beam.environment_config", f"localhost:{router}"),
        )
    finally:
        end(processes)


def a_worker_of(table: Path) -> int:
    """The process of a worker that has finished a shard of this table."""
    live = table / "_progress" / "live"  # of each HOST-PID-RUN.json, and the phase of the job
    until_true(lambda: any(live.glob("*-*.json")), "a worker counts what it has done")
    return int(next(live.glob("*-*.json")).stem.split("-")[-2])


def end(processes: list[subprocess.Popen]) -> None:
    """Kill processes and whatever they started."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def until_true(what: Callable[[], object], name: str) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until, f"{name}: not within {PATIENCE:.0f} s"
        time.sleep(0.05)
