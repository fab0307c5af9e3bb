"""GPUs of this machine that are this process's own.

Worker processes are started by Beam, by dask or by a pool, and nobody numbers them. So each claims GPUs when it first
loads a model: by the lock of a file, which the kernel gives up with the process, however that ends. What it claims is
all that CUDA shows it from then on. Claims are seen by the processes of one user that have the same folder for
temporary files; what other programs do with a GPU is not.
"""

import logging
import math
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from curricle.schemas.chat import cards
from curricle.schemas.chat.cards import VISIBLE
from curricle.schemas.common.errors import UsageError, UserError
from filelock import FileLock, Timeout

UNTOUCHED = "PYTORCH_NVML_BASED_CUDA_CHECK"
PATIENCE = 10.0
"""Seconds to wait for a GPU to become free: the worker in whose stead this one was started may still be ending."""

log = logging.getLogger("curricle")


@dataclass(frozen=True)
class Claim:
    """GPUs by the names that ``CUDA_VISIBLE_DEVICES`` has for them, of those that were there.

    ``sharers``: how many workers were to share each. ``locks`` are held as long as they are referred to.
    """

    gpus: tuple[str, ...]
    there: tuple[str, ...]
    sharers: int
    locks: tuple[FileLock, ...]


_claims: list[Claim] = []
_claiming = threading.Lock()


def claimed() -> Claim | None:
    """What this process has claimed."""
    return _claims[0] if _claims else None


def names() -> tuple[str, ...]:
    """The GPUs that this process might claim, also those that it has not."""
    return mine.there if (mine := claimed()) else cards.visible()


def check(gpus: int, there: Sequence[str]) -> None:
    """UsageError if this machine has GPUs, but fewer than a worker needs."""
    if there and gpus > len(there):
        raise UsageError(
            f"a worker needs {gpus} GPUs, and there are {len(there)} ({', '.join(there)})",
            where="--proxy.tensor-parallel",
            remedy=f"give at most {len(there)}, or name more in {VISIBLE}",
        )


def sharers(gpus: int, workers: int, there: Sequence[str]) -> int:
    """How many of these workers, of which each needs so many GPUs, share each of those that are there."""
    return math.ceil(workers / max(1, len(there) // gpus))


def stay_untouched() -> None:
    """Let torch look for GPUs without starting CUDA, which settles for good which of them a process sees."""
    os.environ.setdefault(UNTOUCHED, "1")


def claim(gpus: int = 1, workers: int = 1, may_crowd: bool = True) -> None:
    """Claim GPUs for this process, once; nothing where there is none, or where CUDA runs here already.

    ``workers``: how many are to get as many each on this machine. Where there are fewer, they share. ``may_crowd``:
    whether others may be joined where all are taken, after ``PATIENCE`` seconds.

    Raises UsageError where there are fewer than ``gpus``, and UserError where none is free.
    """
    with _claiming:
        if _claims:
            if len(have := _claims[0].gpus) < gpus:
                raise UserError(
                    f"this worker process has the GPU {', '.join(have)}, and the job needs {gpus} for each",
                    where="--proxy.tensor-parallel",
                    remedy="start the workers again: a process keeps what it has claimed",
                )
            os.environ[VISIBLE] = ",".join(have)
            return
        there = names()
        if not there or ((torch := sys.modules.get("torch")) and torch.cuda.is_initialized()):
            return
        check(gpus, there)
        each = sharers(gpus, workers, there)
        locks = _locked(there, gpus, each, may_crowd)
        mine = tuple(locks)
        _claims.append(Claim(mine, there, each, tuple(locks.values())))
        os.environ[VISIBLE] = ",".join(mine)
        log.info("process %d has the GPU %s of %s", os.getpid(), ", ".join(mine), ", ".join(there))


@contextmanager
def seen_by_children() -> Iterator[None]:
    """What is claimed in this block is not all that processes see which this one starts after it."""
    before = os.environ.get(VISIBLE)
    try:
        yield
    finally:
        os.environ.pop(VISIBLE, None)
        if before is not None:
            os.environ[VISIBLE] = before


@contextmanager
def starting_alone() -> Iterator[None]:
    """Of workers that share GPUs one at a time is in this block: vLLM measures what it takes of the memory."""
    with ExitStack() as stack:
        if (mine := claimed()) and mine.sharers > 1:
            for gpu in sorted(mine.gpus):
                stack.enter_context(_lock(f"{gpu} starting"))
        yield


def _locked(there: Sequence[str], gpus: int, sharers: int, may_crowd: bool) -> dict[str, FileLock]:
    """So many GPUs with as few others on them as can be, and their locks."""
    until, sharing = time.monotonic() + PATIENCE, sharers
    while True:
        with _lock("choosing"):  # one at a time: two that take turns might each get half of what they need
            for sharer in range(sharing):
                if locks := _free(there, gpus, sharer):
                    if sharer >= sharers:
                        log.warning("all GPUs are taken: %s is shared with another job", ", ".join(locks))
                    return locks
        if time.monotonic() < until:
            time.sleep(0.1)
        elif may_crowd:
            sharing += 1
        else:
            raise UserError(
                f"all GPUs are taken by other processes of yours: {', '.join(there)}",
                where=str(_folder()),
                remedy="let the other job end, or start fewer workers; vLLM reserves memory, and cannot share a GPU "
                "with whom it does not know",
            )


def _free(there: Sequence[str], gpus: int, sharer: int) -> dict[str, FileLock] | None:
    """The first GPUs on which nobody is the sharer of this number, locked; None if they are too few."""
    locks: dict[str, FileLock] = {}
    for gpu in there:
        lock = _lock(f"{gpu} {sharer}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        locks[gpu] = lock
        if len(locks) == gpus:
            return locks
    for lock in locks.values():
        lock.release()
    return None


def _lock(name: str) -> FileLock:
    # not a soft lock, which would outlive a kill; and whichever thread took it, the process has it
    return FileLock(_folder() / f"{quote(name, safe=' ')}.lock", fallback_to_soft=False, thread_local=False)


def _folder() -> Path:
    """The folder of the locks: of this machine, and this user's alone. UserError if it cannot be had."""
    folder = Path(tempfile.gettempdir(), f"curricle-gpus-{os.geteuid()}")
    remedy = "name a folder of yours for temporary files in TMPDIR"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.lstat()
    except OSError as error:
        found = f"GPUs cannot be claimed: {error.strerror or error}"
        raise UserError(found, where=str(folder), remedy=remedy) from error
    if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != os.geteuid():
        raise UserError("GPUs cannot be claimed: this is somebody else's", where=str(folder), remedy=remedy)
    return folder
