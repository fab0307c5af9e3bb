"""No process outlives the tests: all carry a mark in their environment, which whatever they start inherits.

At the end of the tests what still carries it is ended and named, and they have failed. Where they were interrupted it
is ended without a word; and where they were killed themselves, by a process that looks after them.

Read as a script it is that process: ``leftovers.py MARK`` waits for its parent to be gone, and ends all with the mark.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

NAME = "CURRICLE_TESTS"
PATIENCE = float(os.environ.get("CURRICLE_PATIENCE", 30))
"""Seconds in which whoever was told to end, or notices that its driver is gone, has to."""


def mark() -> str:
    """Mark this process's children from now on; inside other tests, as theirs too."""
    outer = os.environ.get(NAME, "")
    os.environ[NAME] = f"{outer}/{os.getpid()}-{time.time_ns()}"
    os.environ["SPT_NOENV"] = "1"  # what gives a process a title would write it over the environment
    return os.environ[NAME]


def look_after(mark: str) -> subprocess.Popen:
    """Start a process, which carries no mark, that ends all that do when this one is gone."""
    environment = {name: value for name, value in os.environ.items() if name != NAME}
    command = [sys.executable, "-I", "-S", __file__, mark, str(os.getpid())]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


def marked(mark: str) -> dict[int, str]:
    """The other processes that carry a mark, by their id, with their commands."""
    result = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            carries = f"{NAME}={mark}".encode() in (path / "environ").read_bytes()
            if carries and int(path.name) != os.getpid():
                result[int(path.name)] = (path / "cmdline").read_text(errors="replace").replace("\0", " ")
    return {pid: command for pid, command in result.items() if "multiprocessing.resource_tracker" not in command}


def end(mark: str, patience: float = PATIENCE) -> dict[int, str]:
    """End what carries a mark, and does not end by itself in time; what that was."""
    until = time.monotonic() + patience
    while (left := marked(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    ended = {**left}
    while left:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        left = marked(mark)
        ended |= left
    return ended


if __name__ == "__main__":
    while os.getppid() == int(sys.argv[2]):
        time.sleep(0.2)
    end(sys.argv[1], 0)
