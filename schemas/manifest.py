"""The manifest: written last and atomically, so that its presence means "whole"."""

import json
import time
from dataclasses import dataclass
from typing import Annotated, Any

from curricle.schemas.common.errors import UserError
from curricle.schemas.files import Location, files_in, inside
from curricle.schemas.fingerprint import digest
from curricle.schemas.table import CONTRACT
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

MANIFEST = "manifest.json"
CERTIFICATE = "certificate.json"


InsidePath = Annotated[str, AfterValidator(inside)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Counts(_Strict):
    """The ledger of one file or of all: ``read = scored + rejected + left_out``.

    ``left_out`` is for selections: what is in the table that was selected from, and not in this one.
    """

    read: int
    scored: int
    rejected: int
    left_out: int = 0


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


@dataclass(frozen=True, order=True)
class NotRead:
    """What lies in a folder that the user named and is no input, and why."""

    path: str
    reason: str


class Cost(_Strict):
    """What scoring took. The only part of a manifest that differs between two identical jobs.

    ``seconds`` are those of workers, summed over shards, so that they survive a restart; ``tokens`` went
    through the proxy.
    """

    seconds: float
    tokens: int
    created: str

    @classmethod
    def now(cls, seconds: float, tokens: int) -> "Cost":
        """What a table took that is finished at this moment."""
        return cls(seconds=round(seconds, 3), tokens=tokens, created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


class SelectedFrom(_Strict):
    """The table that a selection was made from, and the digest of the certificate that says how.

    ``manifest_sha256`` and ``fingerprint`` are that table's; ``rows`` are all that it has.
    """

    manifest_sha256: str
    fingerprint: str
    rows: int
    certificate_sha256: str


class ExtendedFrom(_Strict):
    """The table that columns were added to."""

    manifest_sha256: str
    fingerprint: str


class Manifest(_Strict):
    """Everything that a reader needs to trust a table (DESIGN section 4).

    ``not_read`` tells people what else lay where the sources lie: whether it held records is not known.
    """

    contract: int
    fingerprint: str
    identity: dict[str, Any]
    total: Counts
    sources: list[Source]
    data: list[Part]
    rejects: list[Part]
    cost: Cost
    selected_from: SelectedFrom | None = None
    extended_from: ExtendedFrom | None = None
    not_read: list[NotRead] = []


def read_manifest(location: Location) -> Manifest:
    """The manifest of a finished table; UserError if there is none or it cannot be trusted."""
    files = files_in(location)
    where, remedy = files.uri(MANIFEST), "restore the file, or make the table again with --overwrite"
    try:
        data = files.read(MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            "there is no manifest, so this is not a finished table",
            where=where,
            remedy="name a directory that `curricle score` finished, or run the same command again",
        ) from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}", where=where, remedy=remedy) from error
    try:
        value = json.loads(data)
        digest(value)  # ValueError for what Python lets pass: NaN, infinities, lone surrogates
        manifest = Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        step = ".".join(map(str, first["loc"]))
        raise UserError(
            f"the manifest breaks the contract at {step!r}: {first['msg']}", where=where, remedy=remedy
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON: {error}", where=where, remedy=remedy) from error
    if manifest.contract != CONTRACT:
        raise UserError(
            f"the table follows contract {manifest.contract}, this version reads {CONTRACT}",
            where=where,
            remedy="read it with the version of curricle that wrote it, or score again",
        )
    return manifest
