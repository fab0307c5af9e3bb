"""The output directory: what lies where, who holds it, and under which run workers commit."""

import json
import logging
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from curricle.pipelines.storage import SIGN_OF_LIFE, Storage, open_storage
from curricle.pipelines.storage.held import describe, read_holder
from curricle.pipelines.tables.exchange import settle
from curricle.schemas.common.disk import check_writable
from curricle.schemas.common.errors import DirectoryLocked, UsageError, UserError
from curricle.schemas.exchange import NEXT
from curricle.schemas.manifest import MANIFEST
from curricle.schemas.sealed import seal

log = logging.getLogger("curricle")

PLAN = "_progress/plan.json"
HOLDER = "_progress/holder.json"
LIVE = "_progress/live"
SCRATCH = "_progress/tmp"
SHARDS = "_progress/shards"
RECEIPTS = "_progress/receipts"


@dataclass(frozen=True)
class OutputDirectory:
    """The files of one table, on a disk or in an object store. Nothing is written anywhere else."""

    path: str

    @property
    def absolute(self) -> "OutputDirectory":
        """The same, by a name that does not depend on where a process stands."""
        return self if "://" in self.path else OutputDirectory(os.path.abspath(self.path))

    @cached_property
    def storage(self) -> Storage:
        return open_storage(self.path)

    @staticmethod
    def shard(index: int) -> str:
        return f"{SHARDS}/shard-{index:06d}.arrow"

    @staticmethod
    def shard_rejects(index: int) -> str:
        return f"{SHARDS}/shard-{index:06d}.rejects.arrow"

    @staticmethod
    def receipt(index: int) -> str:
        return f"{RECEIPTS}/shard-{index:06d}.json"

    @contextmanager
    def worker_log(self) -> Iterator[Path]:
        """What worker processes of this machine print, for when one of them dies.

        In the directory; beside an object store in the temporary directory, by a name that nobody can guess, until all
        has gone well.
        """
        if "://" not in self.path:
            yield Path(self.path, "_progress", "workers.log")
            return
        handle, name = tempfile.mkstemp(prefix="curricle-workers-", suffix=".log")
        os.close(handle)
        yield Path(name)
        os.unlink(name)

    def check_usable(self, overwrite: bool) -> None:
        """UsageError if something else lies at the path, or cannot be written."""
        if "://" not in self.path:
            _check_disk(Path(self.path))
            if not self.storage.exists(MANIFEST):
                check_writable(Path(self.path))
        # names alone prove nothing: a user's own data/ and README.md are called so too
        if self.storage.exists(PLAN):
            return
        foreign = sorted({name.partition("/")[0] for name in self.storage.names("")} - {"_progress"})
        if MANIFEST in foreign:
            if not overwrite:
                raise UsageError(
                    f"holds a finished table without {PLAN}, so that it cannot be told what it was made from",
                    where=self.path,
                    remedy="name another --output, or add --overwrite: the table stays until the new one is whole; "
                    "`curricle score --append` adds to it",
                )
        elif foreign:
            raise UsageError(
                f"holds other files ({', '.join(foreign[:3])})", where=self.path, remedy="name a new directory"
            )

    def check_holds_only(self, names: Iterable[str]) -> None:
        """UsageError if files of other names lie in the directory of a page, which is no table."""
        there = {name for name in self.storage.names("") if not name.startswith("_progress/") or name == PLAN}
        if foreign := sorted(there - {*names}):
            raise UsageError(f"holds other files ({foreign[0]})", where=self.path, remedy="name a new directory")

    @contextmanager
    def held(self) -> Iterator[str]:
        """Hold the directory for this process; yields the identity of the run that workers commit under.

        DirectoryLocked if another job holds it. A thread gives a sign of life, for `status` and for who waits for it.
        """
        run = uuid.uuid4().hex
        holder = {"run": run, "pid": os.getpid(), "host": socket.gethostname(), "since": _now(), "beat": 0}
        over = threading.Event()

        def live_on() -> None:
            while not over.wait(SIGN_OF_LIFE):
                holder["beat"] += 1  # type: ignore[operator]
                try:
                    renew({**holder, "seen": _now()})
                except (
                    DirectoryLocked
                ) as error:  # everything that this run still wants to commit asks first, and finds the same
                    log.error("%s", error)
                    return
                except UserError as error:
                    log.warning("%s", error)

        with self.storage.locked(HOLDER, {**holder, "seen": _now()}) as renew:
            thread = threading.Thread(target=live_on, daemon=True)
            thread.start()
            try:
                for folder in (SCRATCH, LIVE):  # debris of a job that was killed
                    self.storage.remove(folder)
                settle(self.storage, partial(self.check_held_by, run))
                yield run
            finally:
                over.set()
                thread.join()

    def check_held_by(self, run: str) -> None:
        """A worker that outlived its job must not write into the next one's directory."""
        holder = read_holder(self.storage, HOLDER)
        if holder.get("run") != run:
            raise DirectoryLocked(
                f"was taken over by {describe(holder)}", where=self.path, remedy="let that job finish"
            )

    def settle(self) -> None:
        """Go on with an exchange of tables that a kill interrupted, before anything is looked at."""
        if self.storage.exists(f"{NEXT}/{MANIFEST}"):
            with self.held():
                pass

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, ensure_ascii=False, indent=1) + "\n")

    def write_sealed(self, name: str, value: dict[str, Any]) -> None:
        self.storage.write(name, seal(value))

    def write_text(self, name: str, text: str) -> None:
        self.storage.write(name, text.encode("utf-8"))


def _check_disk(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise UsageError("is a file", where=str(root), remedy="name a directory for the table")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
