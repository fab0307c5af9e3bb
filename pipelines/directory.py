"""The output directory: what lies where, who holds it, and writes that are whole or absent."""

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from schemas.errors import UsageError, UserError
from schemas.manifest import MANIFEST


class DirectoryHeld(UserError):
    """Another job took the directory over while this one ran."""


@dataclass(frozen=True)
class OutputDirectory:
    """Paths and atomic writes below one output directory. Nothing is written anywhere else."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / MANIFEST

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def progress(self) -> Path:
        return self.root / "_progress"

    @property
    def plan(self) -> Path:
        return self.progress / "plan.json"

    @property
    def live(self) -> Path:
        """Counters of the workers, for the progress bar."""
        return self.progress / "live"

    @property
    def scratch(self) -> Path:
        """Files that are being written: whatever lies here at the start of a job is debris."""
        return self.progress / "tmp"

    @property
    def worker_log(self) -> Path:
        """What worker processes printed, for when one of them dies."""
        return self.progress / "workers.log"

    @property
    def _holder(self) -> Path:
        return self.progress / "holder.json"

    def shard(self, index: int) -> Path:
        return self.progress / "shards" / f"shard-{index:06d}.arrow"

    def shard_rejects(self, index: int) -> Path:
        return self.progress / "shards" / f"shard-{index:06d}.rejects.arrow"

    def receipt(self, index: int) -> Path:
        return self.progress / "receipts" / f"shard-{index:06d}.json"

    def check_usable(self) -> None:
        """UsageError if the place is taken by something else, or cannot be written."""
        if self.root.exists() and not self.root.is_dir():
            raise UsageError("is a file", where=str(self.root), remedy="name a directory for the table")
        if self.root.is_dir():
            # names alone prove nothing: a user's own data/ and README.md are called so too
            foreign = sorted(path.name for path in self.root.iterdir() if path != self.progress)
            if foreign and not self.plan.exists():
                raise UsageError(
                    f"holds other files ({', '.join(foreign[:3])})", where=str(self.root), remedy="name a new directory"
                )
        existing = next(path for path in [self.root, *self.root.absolute().parents] if path.exists())
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UsageError("cannot be written to", where=str(existing), remedy="change its rights or name another")

    @contextmanager
    def held(self) -> Iterator[str]:
        """Hold the directory for this process; yields the identity of the run that workers commit under.

        The lock is the kernel's: it goes with the process, however that ends.
        """
        for folder in (self.scratch, self.live, self.shard(0).parent, self.receipt(0).parent):
            folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.progress / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(
                f"another job holds this directory: {self._describe_holder()}",
                where=str(self.root),
                remedy="wait for it, stop it, or name another --output",
            ) from error
        try:
            run = uuid.uuid4().hex
            holder = {"run": run, "pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
            self._sweep()
            self.write_json(self._holder, holder)
            yield run
        finally:
            lock.release()

    def _describe_holder(self) -> str:
        holder = read_json(self._holder) if self._holder.exists() else {}
        return f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, since {holder.get('since', '?')}"

    def _sweep(self) -> None:
        for folder in (self.scratch, self.live):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def check_held_by(self, run: str) -> None:
        """A worker that outlived its job must not write into the next one's directory."""
        if not self._holder.exists() or read_json(self._holder)["run"] != run:
            raise DirectoryHeld(
                f"was taken over by {self._describe_holder()}", where=str(self.root), remedy="let that job finish"
            )

    def clear(self) -> None:
        """Remove a table and its progress, the manifest first: without it nothing looks whole."""
        self.manifest.unlink(missing_ok=True)
        for name in ("data", "rejects", "README.md", "report.html", "_progress/shards", "_progress/receipts"):
            path = self.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.plan.unlink(missing_ok=True)
        for folder in (self.shard(0).parent, self.receipt(0).parent):
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """A path to write to that becomes ``path``, flushed to disk, when the block ends well."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        beside = self.scratch / f"{uuid.uuid4().hex}-{path.name}"
        try:
            yield beside
            with beside.open("rb") as written:
                os.fsync(written.fileno())
            beside.replace(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise UserError(
                f"cannot be written: {error.strerror or error}",
                where=str(path),
                remedy="make room, or restore the rights; the same command then goes on from the finished shards",
            ) from error
        finally:
            beside.unlink(missing_ok=True)

    def write_json(self, path: Path, value: Any) -> None:
        self.write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")

    def write_text(self, path: Path, text: str) -> None:
        with self.writing(path) as beside:
            beside.write_text(text, "utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
