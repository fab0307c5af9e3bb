"""The runs of a comparison: one after another in this process, or several processes at a time, each of one run.

A process begins as `curricle-train run` begins, from a file of options beside its directory, so that no state of torch
is shared or forked, and any of them can be run again by hand. What has finished is not trained again.
"""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

from curricle.schemas.chat import cards
from curricle.schemas.common.command import DIVERGED
from curricle.schemas.common.disk import write_whole
from curricle.schemas.common.errors import Divergence, UserError
from curricle.schemas.common.log import duration, printable
from curricle.train.comparison.arms import Trial
from curricle.train.distributed import LIFELINE, Processes, Stop
from curricle.train.records.run_json import read_description
from curricle.train.training.loop import run as train

log = logging.getLogger("curricle")

GRACE = 60.0
"""Seconds that the other runs have to save their step when one has failed, before they are ended."""
TAIL = 12
"""Lines of the log of a failed run that are shown."""


class Runner:
    """Makes runs, and says which one of how many it is."""

    def __init__(self, jobs: int, total: int, processes: Processes, stop: Stop) -> None:
        """``total``: how many runs the comparison has, made already or not. ``jobs``: processes at a time."""
        self._jobs, self._total, self._processes, self._stop = jobs, total, processes, stop
        self._begun, self._done = 0, 0
        self._started = time.monotonic()

    def make(self, trials: Sequence[Trial], may_diverge: bool = False) -> set[Path]:
        """Train all of these to their end. UserError, with its log, for one that fails; the others are stopped.

        ``may_diverge``: one whose loss becomes infinite is no failure; the directories of such are returned.
        """
        diverged, elsewhere = set[Path](), list[Trial]()
        for trial in trials:
            # a finished one is looked at here, in a moment: whether it is the run that is meant
            if self._jobs > 1 and read_description(trial.output).get("finished") is None:
                elsewhere.append(trial)
                continue
            self._say(trial)
            try:
                there = read_description(trial.output).get("finished") is not None
                train(trial.settings, self._processes, self._stop)
                self._done += not there
            except Divergence as error:
                if not may_diverge:
                    raise
                self._say_divergence(trial, str(error))
                diverged.add(trial.output)
        return diverged | self._make_in_processes(elsewhere, may_diverge)

    def _say(self, trial: Trial) -> None:
        self._begun += 1
        if self._processes.first:
            figures = {"run": self._begun, "runs": self._total, "arm": trial.arm.text, "seed": trial.seed}
            left = None
            if self._done:  # by those that this process has made, and not by those that it found
                left = (time.monotonic() - self._started) / self._done * (self._total - self._begun + 1)
            about = "" if left is None else f", about {duration(left)} left"
            words = "run %d of %d: %s%s"
            extra = {"figures": {**figures, "seconds_left": left}}
            log.info(words, self._begun, self._total, trial, about, extra=extra)

    def _say_divergence(self, trial: Trial, words: str) -> None:
        if self._processes.first:
            log.warning("%s is out: %s", trial, words)

    def _make_in_processes(self, trials: Sequence[Trial], may_diverge: bool) -> set[Path]:
        diverged = set[Path]()
        waiting, free = list(trials), list(range(self._jobs))
        running: dict[int, tuple[Trial, subprocess.Popen[bytes]]] = {}
        with _lifeline() as lifeline:
            try:
                while waiting or running:
                    while waiting and free:
                        trial, slot = waiting.pop(0), free.pop(0)
                        self._say(trial)
                        running[slot] = trial, _start(trial, slot, self._jobs, lifeline)
                    for slot, (trial, process) in list(running.items()):
                        if process.poll() is not None:
                            del running[slot]
                            free.append(slot)
                            self._done += 1
                            if may_diverge and process.returncode == DIVERGED:
                                self._say_divergence(trial, _tail(trial))
                                diverged.add(trial.output)
                            else:
                                _check_ended(trial, process.returncode)
                    if self._stop.agreed():
                        raise KeyboardInterrupt
                    time.sleep(0.05)
            finally:
                _end([process for _, process in running.values()])
        return diverged


@contextmanager
def _lifeline() -> Iterator[int]:
    """A pipe that closes when this process is gone, however it ends, and with which its runs end."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def _start(trial: Trial, slot: int, jobs: int, lifeline: int) -> "subprocess.Popen[bytes]":
    options, output_log = _beside(trial, "yaml"), _beside(trial, "log")
    options.parent.mkdir(parents=True, exist_ok=True)
    # JSON is YAML; what is not ASCII stands as it is, because YAML does not join surrogates
    write_whole(options, json.dumps(_plain(asdict(trial.settings)), indent=1, ensure_ascii=False) + "\n")
    environment = {**_surroundings(slot, jobs), LIFELINE: str(lifeline)}
    with output_log.open("ab") as file:
        return _open([sys.executable, "-m", "curricle.train.cli", "run", "--config", str(options)], environment, file)


def _surroundings(slot: int, jobs: int) -> dict[str, str]:
    """The environment of the run in one of so many slots: its share of the cores, and a GPU in turn."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONSAFEPATH": "1"}
    if there := cards.visible():
        environment[cards.VISIBLE] = there[slot % len(there)]
    return environment


def _open(command: list[str], environment: dict[str, str], file: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=subprocess.STDOUT,
        pass_fds=[int(environment[LIFELINE])],
    )


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, str | Path):
        return re.sub(r"\$(?=\{)", "$$", str(value))  # ${NAME} in a file is a variable
    return [*map(_plain, value)] if isinstance(value, tuple) else value


def _beside(trial: Trial, suffix: str) -> Path:
    return trial.output.with_name(f"{trial.output.name}.{suffix}")


def _check_ended(trial: Trial, code: int) -> None:
    if code == 0:
        return
    how = f"ended with code {code}" if code > 0 else f"was killed by signal {-code}"
    if code == -signal.SIGKILL:
        how += " (the kernel does so where memory runs out: fewer --jobs or a smaller --batch.tokens take less)"
    raise UserError(
        f"the run of {trial} {how}, and the others were stopped:\n  {_tail(trial)}",
        where=str(_beside(trial, "log")),
        remedy="what has finished stays; mend what its log says, and the same command goes on",
    )


def _tail(trial: Trial) -> str:
    lines = _beside(trial, "log").read_text("utf-8", "replace").splitlines()[-TAIL:]
    return "\n  ".join(printable(line) for line in lines)


def _end(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Ask them to stop, which saves their step; who has not ended in time is killed, and goes on from a checkpoint."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.wait()
