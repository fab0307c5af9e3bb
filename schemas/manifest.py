"""The manifest: written last and atomically, so that its presence means "whole"."""

import json
import os
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from schemas.errors import UserError
from schemas.table import CONTRACT

MANIFEST = "manifest.json"


def _inside(path: str) -> str:
    """A path in a manifest is relative and stays inside the directory, whoever wrote the manifest."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or not pure.parts:
        raise ValueError(f"path {path!r} leaves the directory")
    return path


InsidePath = Annotated[str, AfterValidator(_inside)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Counts(_Strict):
    """The ledger of one file or of all: ``read = scored + rejected``."""

    read: int
    scored: int
    rejected: int


class Source(Counts):
    """One input file: its name, size and SHA-256 as read, and what became of its records."""

    source: str
    bytes: int
    sha256: str


class Part(_Strict):
    """One Parquet file of the output."""

    path: InsidePath
    rows: int
    bytes: int
    sha256: str


class Cost(_Strict):
    """What scoring took. The only part of a manifest that differs between two identical jobs.

    ``seconds`` are those of workers, summed over shards, so that they survive a restart; ``tokens`` went
    through the proxy.
    """

    seconds: float
    tokens: int
    created: str


class Manifest(_Strict):
    """Everything that a reader needs to trust a table (DESIGN section 4)."""

    contract: int
    fingerprint: str
    identity: dict[str, Any]
    total: Counts
    sources: list[Source]
    data: list[Part]
    rejects: list[Part]
    cost: Cost


def read_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """The manifest of a finished table; UserError if there is none or it cannot be trusted."""
    path = Path(directory) / MANIFEST
    if not path.is_file():
        raise UserError(
            "there is no manifest, so this is not a finished table",
            where=str(path),
            remedy="name a directory that `curricle score` finished, or run the same `curricle score` command again",
        )
    try:
        manifest = Manifest.model_validate(json.loads(path.read_bytes()))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"not JSON: {error}", where=str(path), remedy="restore the file or score again") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise UserError(
            f"the manifest breaks the contract at {place!r}: {first['msg']}",
            where=str(path),
            remedy="restore the file or score again",
        ) from error
    if manifest.contract != CONTRACT:
        raise UserError(
            f"the table follows contract {manifest.contract}, this version reads {CONTRACT}",
            where=str(path),
            remedy="read it with the version of curricle that wrote it, or score again",
        )
    return manifest
