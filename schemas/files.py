"""Where the files of a table are read from: a folder, or whatever can hand them out in the same way."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeAlias

from curricle.schemas.common.errors import UserError


def inside(name: str) -> str:
    """The name of a file, or of a folder, that stays inside its directory, whoever wrote it; ValueError for others."""
    pure = PurePosixPath(name)
    name.encode()  # a name with half a surrogate pair is none
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or not pure.parts:
        raise ValueError(f"path {name!r} leaves the directory")
    return name


class Files(Protocol):
    """Files by names with ``/``. FileNotFoundError for reading what is not there."""

    def uri(self, name: str) -> str:
        """How a person, or another program, names the file."""
        ...

    def read(self, name: str) -> bytes: ...

    def exists(self, name: str) -> bool: ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        ...

    def names(self, folder: str) -> list[str]:
        """The names of all files below a folder, sorted; none if there is no such folder."""
        ...

    def local(self, name: str) -> AbstractContextManager[Path]:
        """The file as a local path."""
        ...


@dataclass(frozen=True)
class Folder:
    """See ``Files``. Names come from a manifest that was checked, or from us: as paths they stay below the root."""

    root: Path

    def uri(self, name: str) -> str:
        return str(self.root / name)

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def exists(self, name: str) -> bool:
        return (self.root / name).exists()

    def size(self, name: str) -> int | None:
        path = self.root / name
        return path.stat().st_size if path.is_file() else None

    def names(self, folder: str) -> list[str]:
        names: list[str] = []
        for path, _, files in os.walk(self.root / folder):  # a job may have very many: a Path of each would take 1 kB
            below = Path(path).relative_to(self.root).as_posix()
            names += files if below == "." else [f"{below}/{name}" for name in files]
        return sorted(names)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """UserError for what is no file, or a link that leads out of the folder. Absolute: libraries expand ``~``."""
        path = Path(os.path.abspath(self.root / name))
        if not path.is_file():
            raise UserError("is not there, or no file", where=str(path), remedy="copy the table again")
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root)):
            raise UserError("leads out of the directory", where=str(path), remedy="fetch the table from its source")
        yield path


Location: TypeAlias = str | os.PathLike[str] | Files


def files_in(location: Location) -> Files:
    """The files of a directory, or those that are handed over."""
    return Folder(Path(location)) if isinstance(location, (str, os.PathLike)) else location
