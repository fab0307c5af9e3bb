"""A finished table to a hub, as one commit: what its manifest counts, its manifest, card, report and certificate."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from curricle.pipelines.settings.push import PushSettings
from curricle.pipelines.tables.exchange import CARD, FOLDERS, REPORT
from curricle.pipelines.tables.reader import TableReader, table_path
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.wording import first_line
from curricle.schemas.manifest import CERTIFICATE, MANIFEST

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Upload:
    """What is uploaded, or would be. ``files``: bytes by name; ``commit``: its address, None if nothing was done."""

    address: str
    files: dict[str, int]
    notes: list[str]
    commit: str | None = None

    def lines(self) -> Iterator[str]:
        size = f"{sum(self.files.values()):,} bytes"
        if self.commit:
            yield f"{len(self.files)} files, {size}: {self.commit}"
            return
        yield f"to {self.address} would go"
        yield from (f"  {name}: {bytes_:,} bytes" for name, bytes_ in self.files.items())
        yield f"{size} in all; nothing was uploaded: --upload does it"


def push(settings: PushSettings) -> Upload:
    """Upload the table if ``upload`` says so, and return what that was.

    UserError for a table that is damaged, and where the hub refuses; what was there before is there then. UsageError
    for a hub that has no address.
    """
    _check_endpoint()
    from huggingface_hub import HfApi

    api, table = HfApi(), TableReader(table_path(settings.table))
    table.check_bytes()
    manifest = table.manifest
    files = {part.path: part.bytes for part in (*manifest.data, *manifest.rejects)}
    for name in (MANIFEST, CARD, REPORT, CERTIFICATE):
        if (size := table.files.size(name)) is not None:
            files[name] = size
    notes = []
    if manifest.total.rejected:
        notes.append(f"rejects/ holds how {manifest.total.rejected:,} records began that were refused, as they stood")
    if not (manifest.provenance and manifest.provenance.license):
        notes.append("the card names no licence, and nobody knows whether to use it: `license:` in its first lines")
    upload = Upload(f"{api.endpoint}/datasets/{settings.repository}", files, notes)
    return _committed(api, table, settings, upload) if settings.upload else upload


def _check_endpoint() -> None:
    """UsageError unless the client can be imported: it takes the address apart when it is."""
    address = os.environ.get("HF_ENDPOINT")
    try:
        parts = urlsplit("https://huggingface.co" if address is None else address)
    except ValueError:
        parts = None
    if not (parts and parts.scheme in ("http", "https") and parts.hostname):
        raise UsageError(f"HF_ENDPOINT is {address!r}", remedy="give the address of a hub, https://HOST, or unset it")


def _committed(api: "HfApi", table: TableReader, settings: PushSettings, upload: Upload) -> Upload:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    name, kind = settings.repository, "dataset"
    try:
        with ExitStack() as opened:
            api.create_repo(name, repo_type=kind, private=not settings.public, exist_ok=True)
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                CommitOperationAdd(path, opened.enter_context(table.files.local(path))) for path in upload.files
            ]
            folders = tuple(f"{folder}/" for folder in FOLDERS)
            for path in api.list_repo_files(name, repo_type=kind):  # parts of a table that this one replaces
                if path.startswith(folders) and path not in upload.files:
                    operations.append(CommitOperationDelete(path))
            message = f"Difficulty table of {table.manifest.total.scored:,} rows"
            done = api.create_commit(name, operations, commit_message=message, repo_type=kind)
    except UserError:  # the table's
        raise
    except Exception as error:  # its client's: by its version, of requests, httpx or httpx2, and some of no kind
        raise UserError(
            f"the hub took nothing: {first_line(error)}",
            where=upload.address,
            remedy="check the name, the network and the token (`hf auth login`, or HF_TOKEN), and do it again",
        ) from error
    return Upload(upload.address, upload.files, upload.notes, done.commit_url)
