"""What benchmarks said of the checkpoints of a run: ``evaluations/step-00000100.json``, beside the checkpoints."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curricle.schemas.common.disk import write_whole
from curricle.schemas.common.errors import DirectoryLocked, UserError
from curricle.schemas.contract import from_record, tagged, untagged

FOLDER = "evaluations"


@dataclass(frozen=True)
class Evaluation:
    """One figure of one task. ``task``: as the harness calls it; ``metric``: with its filter, where it has one.

    ``value`` and ``error``: the figure, and its standard error where the harness has one. ``samples``: how many
    questions; ``shots``: how many examples stood before each.
    """

    task: str
    metric: str
    value: float
    error: float | None
    samples: int
    shots: int | None

    @property
    def name(self) -> str:
        return f"{self.task}, {self.metric}"


@dataclass(frozen=True)
class TaskRecord:
    """What came of one task as it was asked for. ``identity``: all that decides the figures, but for the checkpoint."""

    task: str
    identity: dict[str, Any]
    figures: list[Evaluation]


def read_evaluations(run: Path) -> dict[str, list[TaskRecord]]:
    """What there is of each checkpoint, oldest first. UserError for a file that is damaged."""
    return {path.stem: read_tasks(path) for path in sorted((run / FOLDER).glob("step-*.json"))}


def read_tasks(path: Path) -> list[TaskRecord]:
    """The tasks of one file; none where there is none."""
    if not path.exists():
        return []
    try:
        record = untagged("evaluations", json.loads(path.read_bytes()), str(path))
        return [
            TaskRecord(each["task"], each["identity"], [from_record(Evaluation, figure) for figure in each["figures"]])
            for each in record["tasks"]
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        remedy = "remove it; `curricle-train evaluate` writes it again"
        raise UserError(f"not what evaluations are written as: {error}", where=str(path), remedy=remedy) from error


@contextmanager
def checkpoint_lock(checkpoint: Path) -> Iterator[None]:
    """Only one process asks a checkpoint; the lock is on its directory, and goes with the process.

    DirectoryLocked if another one does. UserError for a checkpoint that is gone, as the older ones of a run are that
    is going on.
    """
    try:
        handle = os.open(checkpoint, os.O_RDONLY)
    except FileNotFoundError as error:
        raise UserError("is gone", where=str(checkpoint), remedy="name another checkpoint of the run") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        remedy = "wait for it, or stop it first; other checkpoints may be asked meanwhile"
        raise DirectoryLocked("another process asks this checkpoint", where=str(checkpoint), remedy=remedy) from error
    else:
        yield
    finally:
        os.close(handle)


def write_tasks(path: Path, tasks: Sequence[TaskRecord]) -> None:
    path.parent.mkdir(exist_ok=True)
    record = tagged("evaluations", {"tasks": [asdict(each) for each in tasks]})
    write_whole(path, json.dumps(record, ensure_ascii=False, indent=1) + "\n")


def final_figures(run: Path) -> dict[str, Evaluation]:
    """Of the last checkpoint that was evaluated, by name; the later of two tasks with one name counts."""
    every = read_evaluations(run)
    last = every[max(every)] if every else []
    return {figure.name: figure for task in last for figure in task.figures}
