"""Writes that are whole or absent, and on the disk when they are said to be."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curricle.schemas.common.errors import UsageError


def check_writable(directory: Path) -> None:
    """UsageError if this is a file, or if nothing may be written here, or where it would be made."""
    existing = next(path for path in [directory, *directory.absolute().parents] if path.exists())
    if not existing.is_dir():
        raise UsageError("is a file", where=str(existing), remedy="name a directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError("cannot be written to", where=str(existing), remedy="change its rights or name another")


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, or a directory with all that is in it, if it is there; it does not come back with the power."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=_unless_gone)
    elif os.path.lexists(path):
        path.unlink(missing_ok=True)
    else:
        return
    sync(path.parent)


def _unless_gone(function: object, path: str, failure: tuple[object, BaseException, object]) -> None:
    """A worker of a killed job may still write where we tidy up: what it leaves is debris, now or next time."""
    if not (isinstance(failure[1], OSError) and failure[1].errno in (errno.ENOENT, errno.ENOTEMPTY)):
        raise failure[1]


def beside(path: Path) -> Path:
    """Where a file or a directory is written before it gets its name."""
    return path.with_name(f".{path.name}.partial")


def refuse_links(directory: Path) -> None:
    """UsageError for a link below a directory that is to be written to: what is written would lie elsewhere.

    The directory itself may be one. Who could put a link there while we write may write all that lies there anyway.
    """
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            refuse_link(Path(folder, name))


def refuse_link(path: Path) -> None:
    """UsageError for a link where something is to be written."""
    if path.is_symlink():
        raise UsageError(
            f"is a link to {os.readlink(path)}, and nothing is written through links",
            where=str(path),
            remedy="remove the link, or name another directory",
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write a file to that replaces ``path`` when the block ends well: whoever reads it, also after a power
    failure, finds the old content or the new one.
    """
    refuse_link(path)
    partial = beside(path)
    partial.unlink(missing_ok=True)  # of a writer that was killed, or a link
    yield partial
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file by this content: see ``replacing``."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def publish(directory: Path) -> None:
    """Give the directory that was written ``beside`` this name, where there is none, its name; whole or not at all."""
    partial = beside(directory)
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    os.rename(partial, directory)
    sync(directory.parent)
