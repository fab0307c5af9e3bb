"""A local disk, or one that is mounted: a file is written beside its path, flushed, and renamed."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.pipelines.storage import check_inside
from curricle.pipelines.storage.held import held_by, read_holder
from curricle.schemas.common.disk import refuse_link, refuse_links, remove, sync
from curricle.schemas.common.errors import UserError
from curricle.schemas.files import Folder
from filelock import FileLock, Timeout


@dataclass(frozen=True)
class Disk(Folder):
    """See ``Storage``. What is being written lies in ``_progress/tmp`` below the root, as no other is ours."""

    interval = 0.5

    def write(self, name: str, data: bytes, durable: bool = True) -> None:
        with self._beside(name, durable) as beside:
            beside.write_bytes(data)

    def writing(self, name: str) -> AbstractContextManager[Path]:
        return self._beside(name, durable=True)

    @contextmanager
    def _beside(self, name: str, durable: bool) -> Iterator[Path]:
        check_inside(self, name)
        final = self.root / name
        beside = self.root / "_progress" / "tmp" / f"{uuid.uuid4().hex}-{final.name}"
        with self._failing(name):
            for folder in (beside.parent, final.parent):
                self._refuse_links(folder)
                folder.mkdir(parents=True, exist_ok=True)
            refuse_link(final)
            try:
                yield beside
                if durable:
                    sync(beside)
                beside.replace(final)
                if durable:
                    sync(final.parent)
            finally:
                beside.unlink(missing_ok=True)

    def move(self, name: str, to: str) -> None:
        check_inside(self, name, to)
        with self._failing(to):
            self._refuse_links((self.root / to).parent)
            (self.root / to).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).replace(self.root / to)
            sync((self.root / to).parent)

    def remove(self, name: str) -> None:
        check_inside(self, name)
        with self._failing(name):
            remove(self.root / name)

    @contextmanager
    def locked(self, name: str, holder: dict[str, Any]) -> Iterator[Callable[[dict[str, Any]], None]]:
        """The lock is the kernel's: it goes with the process, however that ends."""
        path = self.root / "_progress" / "lock"
        refuse_links(self.root)
        with self._failing(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive a kill
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise held_by(str(self.root), read_holder(self, name)) from error
        try:

            def renew(holder: dict[str, Any]) -> None:
                self.write(name, json.dumps(holder).encode(), durable=False)

            renew(holder)
            yield renew
        finally:
            self.remove(name)
            lock.release()

    def _refuse_links(self, folder: Path) -> None:
        """One may have been put there after the lock was taken, and workers take none."""
        for below in (folder, *folder.parents):
            if below == self.root or not below.is_relative_to(self.root):
                return
            refuse_link(below)

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot be written: {error.strerror or error}",
                where=str(self.root / name),
                remedy="make room, or restore the rights; the same command then goes on from the finished shards",
            ) from error
