"""Where a table is kept: a local disk, or an object store. What differs between the two is here and nowhere else."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.files import Files, inside

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16
"""Requests at once: each takes tens of milliseconds, whatever it is for."""


def in_threads(work: Callable[[T], R], items: Iterable[T], threads: int = THREADS) -> Generator[R, None, None]:
    """The results in order, of some items at once: no more are begun than are asked for, and a few ahead."""
    waiting: deque[Future[R]] = deque()
    items = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        try:
            waiting.extend(pool.submit(work, item) for item in islice(items, 2 * threads))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(items, 1))
        finally:
            pool.shutdown(cancel_futures=True)


class Storage(Files, Protocol):
    """Files that are there whole, as they were last written, or not at all.

    UserError, with a remedy, where the disk or the store fails, and for a change of what lies outside the directory.
    """

    interval: float
    """Seconds between two writes of what is only for the eye."""

    def write(self, name: str, data: bytes, durable: bool = True) -> None:
        """Write a small file. Not ``durable``: it need not outlive a loss of power."""
        ...

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A local path to write to that becomes the file, durably, when the block ends well."""
        ...

    def move(self, name: str, to: str) -> None: ...

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it, if it is there."""
        ...

    def locked(self, name: str, holder: dict[str, Any]) -> AbstractContextManager[Callable[[dict[str, Any]], None]]:
        """Be the only one who holds the lock, with ``holder`` in the file ``name``; DirectoryLocked if another is.

        Yields a function that writes the holder again: a sign of life, at least every ``SIGN_OF_LIFE`` seconds.
        """
        ...


def check_inside(files: Files, *names: str) -> None:
    """UserError for a name that leads out of the directory, before anything is written there or removed."""
    for name in names:
        try:
            inside(name)
        except ValueError as error:
            raise UserError(
                str(error), where=files.uri(""), remedy="make the table again in another directory"
            ) from error


SIGN_OF_LIFE = 5.0
"""Seconds between two signs of life of who holds a lock."""


def open_storage(path: str) -> Storage:
    """The storage that a path or an address names; UsageError for an address that cannot be written to."""
    if "://" not in path:
        from curricle.pipelines.storage.disk import Disk

        return Disk(Path(path))
    scheme = path.partition("://")[0]
    if scheme not in ("s3", "gs", "az", "abfs", "abfss"):
        raise UsageError(
            f"cannot write to {scheme}://",
            where=path,
            remedy="name a local directory (a mounted disk is one), or an address of s3://, gs:// or az://",
        )
    from curricle.pipelines.storage.objects import Objects

    return Objects(path.rstrip("/"))
