"""The manifest: written last and atomically, so that its presence means "whole"."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.contract import Contract, read_contract
from curricle.schemas.files import Folder, Location, files_in, inside
from curricle.schemas.fingerprint import digest
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

MANIFEST = "manifest.json"
CERTIFICATE = "certificate.json"


InsidePath = Annotated[str, AfterValidator(inside)]


def _contract(value: object) -> Contract:
    return value if isinstance(value, Contract) else read_contract(value)


class _Record(BaseModel):
    """Keys that this version does not know are those of a later one, and passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Counts(_Record):
    """The ledger of one file or of all: ``read = scored + rejected + left_out``.

    ``left_out`` is for selections: what is in the table that was selected from, and not in this one. Of ``reused``
    rows a score was copied from a table when this one was made.
    """

    read: int
    scored: int
    rejected: int
    left_out: int = 0
    reused: int = 0


class Source(Counts):
    """One input file: its name, size and SHA-256 as read, and what became of its records."""

    source: str
    bytes: int
    sha256: str


class Part(_Record):
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


class Cost(_Record):
    """What scoring took. With ``reused`` and ``provenance``, all that differs between the manifests of identical jobs.

    ``seconds`` are those of workers, summed over shards, so that they survive a restart: to read, score and write each,
    though a shard is read while the model is busy with the one before it. ``tokens`` went through the proxy.
    """

    seconds: float
    tokens: int
    created: str

    @classmethod
    def now(cls, seconds: float, tokens: int) -> "Cost":
        """What a table took that is finished at this moment."""
        return cls(seconds=round(seconds, 3), tokens=tokens, created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


class SelectedFrom(_Record):
    """The table that a selection was made from, and the digest of the certificate that says how.

    ``manifest_sha256`` and ``fingerprint`` are that table's; ``rows`` are all that it has.
    """

    manifest_sha256: str
    fingerprint: str
    rows: int
    certificate_sha256: str


class ExtendedFrom(_Record):
    """The table that columns were added to."""

    manifest_sha256: str
    fingerprint: str


class ConcatenatedFrom(_Record):
    """One of the tables that were put together: the name of its directory, and how many rows and rejects it has.

    ``renamed``: sources that have another name here, because another table has a different file of that name.
    """

    name: str
    manifest_sha256: str
    fingerprint: str
    rows: int
    rejected: int
    renamed: dict[str, str] = {}


class ModelOrigin(_Record):
    """A model by the name that a person knows it by, its revision, and the columns that rest on it.

    ``revision``: the commit of a hub's model; of others the start of a digest of their files.
    """

    name: str
    revision: str | None = None
    columns: list[str] = []


class CommandRun(_Record):
    """A command that made a table or a part of it, and the versions of what decided its numbers."""

    command: str
    curricle: str
    python: str = ""
    libraries: dict[str, str] = {}


class Provenance(_Record):
    """Where a table came from: the commands in their order, the models, and the licence and languages that were named.

    It decides no number, and stands in no fingerprint.
    """

    commands: list[CommandRun] = []
    models: list[ModelOrigin] = []
    license: list[str] = []
    language: list[str] = []


class Manifest(_Record):
    """Everything that a reader needs to trust a table (docs/design.md, "The table").

    ``columns`` are the fingerprints of the score columns; contract 1 had none. ``not_read`` tells people what else lay
    where the sources lie: whether it held records is not known.
    """

    contract: Annotated[Contract, BeforeValidator(_contract)]
    fingerprint: str
    identity: dict[str, Any]
    columns: dict[str, str] = {}
    total: Counts
    sources: list[Source]
    data: list[Part]
    rejects: list[Part]
    cost: Cost
    selected_from: SelectedFrom | None = None
    extended_from: ExtendedFrom | None = None
    concatenated_from: list[ConcatenatedFrom] = []
    not_read: list[NotRead] = []
    provenance: Provenance | None = None


def read_manifest(location: Location) -> Manifest:
    """The manifest of a finished table; UserError if there is none or it cannot be trusted."""
    files = files_in(location)
    where, remedy = files.uri(MANIFEST), "restore the file, or make the table again with --overwrite"
    try:
        data = files.read(MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        if isinstance(files, Folder) and not files.root.is_dir():
            found = "is a file, and no table" if files.root.exists() else "there is no such directory"
            remedy = "name a directory that `curricle score` finished"
            raise UsageError(found, where=str(files.root), remedy=remedy) from error
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
        _check_reader(value, where)
        return Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        step = ".".join(map(str, first["loc"]))
        raise UserError(
            f"the manifest breaks the contract at {step!r}: {first['msg']}", where=where, remedy=remedy
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON: {error}", where=where, remedy=remedy) from error


def _check_reader(value: object, where: str) -> None:
    """UserError if the manifest is for newer readers: what else is in it is not looked at then."""
    with suppress(ValueError):  # the validation says what is wrong
        read_contract(value.get("contract") if isinstance(value, dict) else None, where)
