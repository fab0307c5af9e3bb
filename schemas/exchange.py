"""A table that is about to replace another, for readers.

A new table is written below ``_progress/next``, under the names that it will have, its manifest last. From that moment
it is the table of the directory: what lies below ``next`` counts before what lies at its own path, until all of it is
there. Who reads through ``committed`` therefore finds, at every instant and after a kill at any, the old table whole or
the new one whole. Who does not (a glob over ``data``) finds no ``manifest.json`` for as long as the files are moved.

``_progress/finished.json`` says which plan the table was made by, the digest of its manifest, and what else belongs
to it: what a later table has to remove.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from curricle.schemas.files import Files
from curricle.schemas.manifest import MANIFEST, InsidePath, read_manifest
from curricle.schemas.sealed import unsealed
from pydantic import BaseModel, ConfigDict, ValidationError

NEXT = "_progress/next"
FINISHED = "_progress/finished.json"


class Finished(BaseModel):
    """``plan``: the digest of the plan; ``manifest``: the SHA-256 of the manifest; ``files``: all its names."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    plan: str
    manifest: str
    files: list[InsidePath]


def read_finished(files: Files, name: str = FINISHED) -> Finished | None:
    """What was recorded of the table; None if nothing was. ValueError if it is damaged."""
    try:
        return Finished.model_validate(unsealed(files.read(name)))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ValueError(str(error.errors()[0]["msg"])) from error


def manifest_is_as_written(files: Files, finished: Finished) -> bool:
    return sha256(files.read(MANIFEST)).hexdigest() == finished.manifest


def committed(files: Files) -> Files:
    """The files of the table that counts."""
    return _Exchanged(files) if files.exists(f"{NEXT}/{MANIFEST}") else files


@dataclass(frozen=True)
class _Exchanged:
    """See ``Files``. A table of which some files may not have been moved yet."""

    files: Files

    def _now(self, name: str) -> str:
        return f"{NEXT}/{name}" if self.files.exists(f"{NEXT}/{name}") else name

    @cached_property
    def _parts(self) -> set[str]:
        manifest = read_manifest(self)
        return {part.path for part in [*manifest.data, *manifest.rejects]}

    def uri(self, name: str) -> str:
        return self.files.uri(name)

    def read(self, name: str) -> bytes:
        return self.files.read(self._now(name))

    def exists(self, name: str) -> bool:
        return self.files.exists(self._now(name))

    def size(self, name: str) -> int | None:
        return self.files.size(self._now(name))

    def names(self, folder: str) -> list[str]:
        """Without what is left of the table before."""
        coming = {name.removeprefix(f"{NEXT}/") for name in self.files.names(f"{NEXT}/{folder}")}
        return sorted(coming | (self._parts & {*self.files.names(folder)}))

    def local(self, name: str) -> AbstractContextManager[Path]:
        return self.files.local(self._now(name))
