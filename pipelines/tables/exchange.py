"""How a finished table moves into its directory, and how an older one that lies there survives until then.

The states of an output directory, each of which a kill may leave and the same command goes on from:

1. ``plan.json`` of this job, a table of another plan (or none), and work that is not finished. The table verifies:
   nothing of it is touched. ``finished.json`` tells whose it is.
2. The new table lies whole below ``_progress/next``; its manifest was written last, and with it the directory has
   changed hands (schemas.exchange).
3. ``publish``: the old manifest is removed; then every file of the old table that the new one does not have; then each
   new file is moved to its own path, the manifest last. Each step can be done again: whoever holds the directory next
   goes on (``OutputDirectory.held``).
4. The table lies at its own paths, and nothing is left below ``next``.

Why the files are not exchanged at once: no system call exchanges a manifest together with folders, an object store
renames nothing, and the output directory itself may be a mount that cannot be renamed.
"""

import logging
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any

from curricle.pipelines.storage import Storage
from curricle.schemas.common.errors import UserError
from curricle.schemas.exchange import FINISHED, NEXT, Finished, read_finished
from curricle.schemas.fingerprint import digest
from curricle.schemas.manifest import CERTIFICATE, MANIFEST
from curricle.schemas.sealed import seal

log = logging.getLogger("curricle")

FOLDERS = ("data", "rejects")
CARD = "README.md"
REPORT = "report.html"


def disown(storage: Storage, before: dict[str, Any] | None, plan: dict[str, Any]) -> None:
    """See to it that the table that is published is not taken for this plan's: it is of the one before, or nobody's."""
    try:
        finished = read_finished(storage)
    except (UserError, ValueError):
        finished = before = None
    if finished is None or finished.plan == digest(plan):
        files = finished.files if finished else [name for name in (CARD, CERTIFICATE) if storage.exists(name)]
        storage.write(FINISHED, _finished(None if before == plan else before, storage.read(MANIFEST), files))


def commit(storage: Storage, plan: dict[str, Any], manifest: bytes) -> None:
    """Make what lies below ``next`` the table of the directory: everything else is there, the manifest comes last."""
    names = [name.removeprefix(f"{NEXT}/") for name in storage.names(NEXT)]
    storage.write(f"{NEXT}/{FINISHED}", _finished(plan, manifest, names))
    storage.write(f"{NEXT}/{MANIFEST}", manifest)


def publish(storage: Storage, check: Callable[[], None]) -> None:
    """Move the table that was committed to its own paths, or the rest of it. ``check`` raises if it is not ours to do.

    The page that was made of the old table goes with it; who publishes writes the new one. ValueError if what was
    committed is damaged.
    """
    table = read_finished(storage, f"{NEXT}/{FINISHED}") or read_finished(storage, FINISHED)
    if table is None or sha256(storage.read(f"{NEXT}/{MANIFEST}")).hexdigest() != table.manifest:
        raise ValueError("the manifest is not the one that was written")
    check()
    storage.remove(MANIFEST)
    there = {name for folder in FOLDERS for name in storage.names(folder)}
    for name in sorted((there | _files(storage) | {REPORT}) - {*table.files}):
        check()
        storage.remove(name)
    manifest = f"{NEXT}/{MANIFEST}"
    for name in [*(name for name in storage.names(NEXT) if name != manifest), manifest]:
        check()
        storage.move(name, name.removeprefix(f"{NEXT}/"))
    storage.remove(NEXT)


def settle(storage: Storage, check: Callable[[], None]) -> None:
    """Go on with an exchange that a kill interrupted, and remove what was never committed, or was damaged since."""
    if storage.exists(f"{NEXT}/{MANIFEST}"):
        try:
            publish(storage, check)
        except ValueError as error:
            log.warning("%s: a table that was about to be published is damaged: %s", storage.uri(NEXT), error)
    storage.remove(NEXT)


def _files(storage: Storage) -> set[str]:
    """What belongs to the table that is published, as far as that was recorded and can be read."""
    try:
        finished = read_finished(storage)
    except (UserError, ValueError):
        return set()
    return {*finished.files} if finished else set()


def _finished(plan: dict[str, Any] | None, manifest: bytes, files: Iterable[str]) -> bytes:
    marker = Finished(plan=digest(plan), manifest=sha256(manifest).hexdigest(), files=sorted(files))
    return seal(marker.model_dump())
