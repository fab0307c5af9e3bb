"""What a comparison says of itself while its runs are made, and what `curricle-train status` says of it."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from curricle.schemas.common.command import State
from curricle.schemas.common.disk import write_whole
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.log import duration
from curricle.schemas.contract import tagged, untagged
from curricle.schemas.sealed import seal, unsealed
from curricle.train.records.metrics import read_metrics
from curricle.train.records.run_json import runs_of_comparison
from curricle.train.records.status import RunStatus, is_held, status_of_run

RECORD, FIGURES = "comparison.json", "compare.json"


@dataclass(frozen=True)
class ComparisonStatus:
    """How a comparison stands.

    ``state``: done; running; stopped; dead, where who made it has ended without a word. ``runs``: how many it has, None
    of one by an earlier version that is not done, which did not write it down. ``running``: those that are trained
    now. ``seconds_left``: of a running one, by the seconds of training of the runs that are done; None before one is.
    """

    directory: str
    state: State
    runs: int | None
    runs_done: int
    running: tuple[RunStatus, ...] = ()
    seconds_left: float | None = None

    def to_json(self) -> str:
        """One object, all in one line."""
        return json.dumps(asdict(self))

    def lines(self) -> Iterator[str]:
        of = "" if self.runs is None else f" of {self.runs:,}"
        yield f"{self.directory}: {self.state}, {self.runs_done:,}{of} runs are finished"
        for run in self.running:
            yield from run.lines()
        if self.seconds_left is not None:
            yield f"about {duration(self.seconds_left)} left in all"
        if self.state in ("stopped", "dead"):
            yield "nobody works on it; the same command goes on from what is finished"


@contextmanager
def comparing(output: Path, runs: int) -> Iterator[None]:
    """Say in the directory that a comparison of so many runs is made there, and how that ends.

    Several may be made in one directory at a time, of other arms: each run has a lock of its own, and the first of them
    has this one, which goes with its process.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as file:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write(output, runs, "running")
        try:
            yield
        except BaseException:
            _write(output, runs, "stopped")
            raise
        _write(output, runs, "done")


def is_comparison(directory: Path) -> bool:
    """Whether there is a comparison, or what is done of one."""
    return (directory / RECORD).exists() or bool(runs_of_comparison(directory))


def status_of_comparison(directory: Path) -> ComparisonStatus:
    """How a comparison stands. UsageError where what it says of itself is damaged."""
    runs = [status_of_run(path) for path in runs_of_comparison(directory)]
    done, running = [each for each in runs if each.state == "done"], [each for each in runs if each.state == "running"]
    total, recorded = _read(directory, len(done))
    if is_held(directory) or running:
        left = _seconds_left(total, done, running)
        return ComparisonStatus(str(directory), "running", total, len(done), tuple(running), left)
    state: State = "dead" if recorded == "running" else recorded
    return ComparisonStatus(str(directory), state, total, len(done))


def _write(output: Path, runs: int, state: Literal["running", "stopped", "done"]) -> None:
    write_whole(output / RECORD, seal(tagged("comparison", {"runs": runs, "state": state})).decode())


def _read(directory: Path, done: int) -> tuple[int | None, Literal["running", "stopped", "done"]]:
    """How many runs there are to be, and how it ended as far as it says."""
    path = directory / RECORD
    try:
        record = untagged("comparison", unsealed(path.read_bytes()), str(path))
        runs, state = record.get("runs"), record.get("state")
        if not isinstance(runs, int) or state not in ("running", "stopped", "done"):
            raise ValueError("it does not say how many runs there are, or how it stands")
        return runs, state
    except FileNotFoundError:  # of an earlier version
        return (done, "done") if (directory / FIGURES).exists() else (None, "stopped")
    except ValueError as error:
        remedy = "remove it; the same comparison writes it again"
        raise UsageError(f"not the record of a comparison: {error}", where=str(path), remedy=remedy) from error


def _seconds_left(total: int | None, done: list[RunStatus], running: list[RunStatus]) -> float | None:
    seconds = [_seconds(Path(run.directory)) for run in done]
    if total is None or not seconds or not running:
        return None
    mean = sum(seconds) / len(seconds)
    rest = max(0, total - len(done) - len(running)) * mean
    return (rest + sum(mean if run.seconds_left is None else run.seconds_left for run in running)) / len(running)


def _seconds(run: Path) -> float:
    """Of training, as the run's own metrics say."""
    lines = [line for line in read_metrics(run) if line["kind"] == "train"]
    return float(lines[-1]["total"]["seconds"]) if lines else 0.0
