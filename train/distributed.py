"""Processes: which one this is, what they add up together, and how they are started."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from curricle.schemas.chat.cards import VISIBLE
from curricle.schemas.common import stop
from curricle.schemas.common.command import STAGE
from curricle.schemas.common.errors import UsageError
from numpy.typing import NDArray

LIFELINE = "CURRICLE_LIFELINE"
MEETING = "CURRICLE_MEETING"
RESUMES = "the same command goes on from the last checkpoint"
GRACE = 10.0
"""Seconds that processes have to end by themselves, and to say why, when one of them has ended with an error."""


@dataclass(frozen=True)
class Processes:
    """This process among ``world``. ``group`` (gloo) is for arrays on the host; tensors have the default group."""

    rank: int
    world: int
    device: torch.device
    group: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: NDArray) -> NDArray:  # type: ignore[type-arg]
        """The sum over all processes of an array on the host. Adding zeros is exact, so that shards keep their bits."""
        if self.group is None:
            return values
        tensor = torch.from_numpy(np.ascontiguousarray(values).copy())
        dist.all_reduce(tensor, group=self.group)
        return tensor.numpy()

    def barrier(self) -> None:
        if self.group is not None:
            dist.barrier(group=self.group)

    def lost(self, error: RuntimeError) -> bool:
        """Whether this error says that another process is gone; those of gloo have no type of their own."""
        return isinstance(error, dist.DistError) or (self.world > 1 and "gloo" in str(error))

    def disconnect(self) -> None:
        """Leave the others. A process group that somebody else made in this process stays as it is."""
        if self.group is not None:
            dist.destroy_process_group()


def connect() -> Processes:
    """Join the processes that torchrun started, or be the only one."""
    _end_with_the_launcher()
    rank, world, local = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    _check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", local + 1)), "torchrun --nproc-per-node")
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world == 1:
        return Processes(rank, world, device)
    if not dist.is_initialized():
        # started by `launch`, they meet in a file; by torchrun, where it says
        store = dist.FileStore(os.environ[MEETING], world) if MEETING in os.environ else None
        here = (rank, world) if store else (-1, -1)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=here[0], world_size=here[1])
    return Processes(rank, world, device, dist.new_group(backend="gloo"))


def launch(nproc: int, arguments: Sequence[str]) -> int:
    """Run ``curricle-train ARGUMENTS`` in ``nproc`` processes of this machine; the exit code of the first that fails.

    They find each other by a file that nobody else may read, and talk through the loopback interface alone, so that
    nothing listens to the network. They end with this process, however that ends. When one is killed the others are
    ended at once: they would wait for it in vain.

    Raises UsageError, before any is started, where they are more than the GPUs of this machine, if it has some.
    """
    _check_gpus(nproc, "--device.nproc")
    with tempfile.TemporaryDirectory(prefix="curricle-") as private:  # with rights for its owner alone
        return _launch(nproc, arguments, Path(private) / "meeting")


def _check_gpus(processes: int, where: str) -> None:
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < there < processes:
        raise UsageError(
            f"{processes} processes take a GPU each, and torch sees {there} here",
            where=where,
            remedy=f"give at most {there}, or name more in {VISIBLE}; {VISIBLE}= without a name trains on the CPU",
        )


def _launch(nproc: int, arguments: Sequence[str], meeting: Path) -> int:
    lifeline, held = os.pipe()
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    environment = {
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // nproc)),
        **os.environ,
        "PYTHONSAFEPATH": "1",
        MEETING: str(meeting),
        "WORLD_SIZE": str(nproc),
        LIFELINE: str(lifeline),
        STAGE: "1",
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "curricle.train.cli", *arguments],
            pass_fds=[lifeline],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(nproc)
    ]
    os.close(lifeline)

    def pass_on() -> bool:
        for worker in workers:
            worker.terminate()
        return True

    failed, deadline = None, float("inf")
    with stop.answered_by(pass_on):
        while any([worker.poll() is None for worker in workers]):
            if failed is None and (failed := _first_failed(workers)) is not None:
                deadline = time.monotonic() + (GRACE if workers[failed].returncode > 0 else 0)
            if time.monotonic() > deadline:
                for worker in workers:
                    worker.kill()
            time.sleep(0.05)
    os.close(held)
    if failed is None and (failed := _first_failed(workers)) is None:
        return 0
    if stop.requested.is_set():
        raise KeyboardInterrupt
    code = workers[failed].returncode
    if code < 0:
        killed = f"process {failed} of {nproc} was killed by {signal.Signals(-code).name}, and the others were ended"
        if code == -signal.SIGKILL:
            killed += "; the kernel does so where memory runs out: --batch.tokens takes less"
        print(f"curricle-train: {killed}; {RESUMES}", file=sys.stderr)
    return max(code, 1)


def _first_failed(workers: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Its rank. Of several that ended between two looks it is the killed one, for which the others fail."""
    failed = [rank for rank, worker in enumerate(workers) if worker.returncode]
    return min(failed, key=lambda rank: workers[rank].returncode, default=None)


def _end_with_the_launcher() -> None:
    """A worker outlives its launcher by nothing: the pipe that both hold closes when the launcher is gone."""
    if LIFELINE in os.environ:
        lifeline = int(os.environ[LIFELINE])
        threading.Thread(target=lambda: os.read(lifeline, 1) or os._exit(1), daemon=True).start()


class Stop:
    """A request to stop on which all processes agree, so that they save the same step.

    Anybody may make it: a command when a signal comes, a notebook from another thread. ``watched``: whether a run looks
    at it by now, between two steps or two passes of a probe.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._requested = torch.zeros(1)
        self._reduction: tuple[torch.Tensor, dist.Work | None] | None = None
        self.watched = False

    def request(self) -> None:
        self._requested.fill_(1)

    def agreed(self) -> bool:
        """To be called by every process, as often as by the others. Several know it one call late, and never wait."""
        if self._processes.group is None:
            return bool(self._requested)
        before, self._reduction = self._reduction, (shared := self._requested.clone(), None)
        self._reduction = shared, dist.all_reduce(shared, group=self._processes.group, async_op=True)
        if before is None:
            return False
        flags, work = before
        if work is not None:
            work.wait()
        return bool(flags > 0)
