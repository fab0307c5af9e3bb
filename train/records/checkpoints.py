"""What lies in the checkpoints of a run, and whether it is whole; train.model.checkpoint writes and loads them."""

import json
import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curricle.schemas.common.disk import refuse_links, write_whole
from curricle.schemas.common.errors import DirectoryLocked, UserError
from curricle.schemas.contract import from_record, untagged
from curricle.schemas.sealed import unsealed
from curricle.schemas.sums import damaged

log = logging.getLogger("curricle")

DIGESTS = "state/digests.json"
LATEST = "latest"
"""A file beside the checkpoints that holds the name of the last one. No link: object stores and some file systems have
none, and a run writes through none (schemas.common.disk)."""
_NAME = re.compile(r"step-(\d{8,})")


@dataclass
class Cursor:
    """How far a run has come. ``order``: the hash of the rows consumed. ``totals``: what it has cost so far.

    ``notes``: how often a row was trained on that had nothing to learn from, or was cut, by what was wrong.
    """

    step: int = 0
    order: str = "00" * 16
    records: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)


def checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    saved = [path for path in (run / "checkpoints").glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(saved, key=step_of)


def surplus(saved: Sequence[Path], every: int, keep: int) -> list[Path]:
    """Of checkpoints, oldest first, those that are not to stay.

    The last ``keep`` stay of those that were due, every so many steps, and the last of all; one that a stop saved in
    between goes first, so that no stop costs a run what it would have had in the end.
    """

    def rank(path: Path) -> tuple[bool, int]:
        step = step_of(path)
        return path == saved[-1] or not every or step % every == 0, step

    return sorted(saved, key=rank)[:-keep]


def read_cursor(checkpoint: Path) -> Cursor:
    """How far a checkpoint has come; UserError if any of its files has another size than it was written with."""
    check(checkpoint, every_byte=False)
    try:
        path = checkpoint / "state" / "cursor.json"
        cursor = from_record(Cursor, untagged("cursor", json.loads(path.read_bytes()), str(path)))
        if checkpoint.name != name_of(cursor.step):
            raise ValueError(f"it says step {cursor.step}")
        bytes.fromhex(cursor.order)
        return cursor
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise unreadable(checkpoint, f"state/cursor.json: {error}") from error


def faults(checkpoint: Path, every_byte: bool = True) -> list[str] | None:
    """What is wrong with the files of a checkpoint, in words; None if an earlier version wrote it, without digests."""
    try:
        return damaged(checkpoint, sums(checkpoint), every_byte)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return [f"{DIGESTS}: {error}"]


def sums(checkpoint: Path) -> dict[str, Any]:
    """The size and digest that each file of a checkpoint was written with. ValueError if they are damaged themselves,
    FileNotFoundError if an earlier version wrote none.
    """
    return unsealed((checkpoint / DIGESTS).read_bytes())


def check(checkpoint: Path, every_byte: bool = True) -> None:
    """UserError if a checkpoint is not as it was written."""
    problems = faults(checkpoint, every_byte)
    if problems is None and every_byte:
        log.info("%s was written by an earlier version, without digests: it is taken as it is", checkpoint.name)
    if problems:
        raise unreadable(checkpoint, "; ".join(problems))


def point(run: Path) -> None:
    """Say in ``checkpoints/latest`` which checkpoint is the last one."""
    saved, latest = checkpoints(run), run / "checkpoints" / LATEST
    name = f"{saved[-1].name}\n" if saved else ""
    if name and (not latest.exists() or latest.read_text() != name):
        write_whole(latest, name)


def name_of(step: int) -> str:
    """The directory of the checkpoint after a step."""
    return f"step-{step:08d}"


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, as its name says."""
    return int(checkpoint.name.removeprefix("step-"))


def last_of(run: Path) -> str:
    """What a run goes on from, in words."""
    saved = checkpoints(run)
    return str(saved[-1]) if saved else "the start"


def unreadable(checkpoint: Path, reason: object) -> UserError:
    """The error for one that cannot be gone on from."""
    return UserError(
        f"the checkpoint is damaged, or its state cannot be read: {reason}",
        where=str(checkpoint),
        remedy="remove this checkpoint to go on from the one before it, or from the start",
    )


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Only one process trains in a directory; the lock goes with its process, however that ends."""
    import fcntl

    run.mkdir(parents=True, exist_ok=True)
    refuse_links(run)
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DirectoryLocked(
                "another process is training in this directory", where=str(run), remedy="wait for it, or stop it first"
            ) from error
        for stale in (run / "checkpoints").glob(".step-*"):
            shutil.rmtree(stale)
        point(run)  # a kill may have come before it, and a user may have removed one
        yield
