"""What a directory says of the table in it: by which plan it was made, and whether it is whole.

A plan is JSON, sealed. It is replaced, never removed, so that at every instant it can be told what lies there.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from curricle.pipelines.storage.longarray import dumps, loads
from curricle.pipelines.tables.directory import PLAN, RECEIPTS, SHARDS, OutputDirectory
from curricle.pipelines.tables.exchange import disown
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import listed
from curricle.schemas.contract import tagged, untagged
from curricle.schemas.exchange import read_finished
from curricle.schemas.fingerprint import digest
from curricle.schemas.manifest import MANIFEST, InsidePath
from curricle.schemas.sealed import sealed, unsealed
from curricle.schemas.verify import damaged
from pydantic import TypeAdapter, ValidationError

log = logging.getLogger("curricle")

LEAVES = "leaves"
"""The key of a plan for what making the table leaves beside it, such as the checkpoints of a training."""

_LEFT = TypeAdapter(list[InsidePath])


def read_recorded(directory: OutputDirectory) -> dict[str, Any] | None:
    """The plan in a directory, without its tag; None if there is none. UsageError if it is damaged.

    The slices of its sources are held as text: a job may have very many.
    """
    try:
        content = unsealed(directory.storage.read(PLAN), partial(loads, among="sources", key="slices"))
        plan = untagged("plan", content, directory.storage.uri(PLAN))
        _LEFT.validate_python(plan.get(LEAVES, []))
        digest(plan)  # ValueError for what Python reads and we do not write: NaN, infinities, lone surrogates
        return plan
    except FileNotFoundError:
        return None
    except ValueError as error:
        found = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise damaged_plan(directory, found) from error


def damaged_plan(directory: OutputDirectory, error: object) -> UsageError:
    return UsageError(
        f"the plan of the job is damaged: {error}",
        where=directory.storage.uri(PLAN),
        remedy="add --overwrite to the command that makes the table: it starts again",
    )


def is_finished(directory: OutputDirectory) -> bool:
    """Whether the table in the directory is that of the plan that lies there, whole or damaged.

    UsageError if what was recorded of them is damaged.
    """
    if not directory.storage.exists(MANIFEST):
        return False
    try:
        finished = read_finished(directory.storage)
    except ValueError as error:
        raise UsageError(
            f"the record of the table is damaged: {error}",
            where=directory.path,
            remedy="copy the table again, or add --overwrite to make it again",
        ) from error
    return finished is None or finished.plan == digest(read_recorded(directory))


def goes_on(directory: OutputDirectory) -> bool:
    """Whether the work by the plan that lies in the directory is not finished."""
    try:
        return not is_finished(directory)
    except UsageError:
        return False


def is_there(directory: OutputDirectory, overwrite: bool) -> bool:
    """Whether the table of the plan that lies in the directory is finished and whole: by names and sizes, and to
    the last byte if it may be overwritten.

    UsageError if it is damaged and must not be.
    """
    try:
        if not is_finished(directory):
            return False
        faults = damaged(directory.storage, digests=overwrite)
    except UsageError as error:
        if not overwrite:
            raise
        faults = [error.found]
    if faults and not overwrite:
        raise UsageError(
            "the table is not as it was written:" + listed(faults),
            where=directory.path,
            remedy="copy it again, or add --overwrite to make it again",
        )
    if faults:
        log.warning("%s: %s; the table is made again", directory.path, faults[0])
    return not faults


def left_beside(directory: OutputDirectory) -> list[str]:
    """What making the table that lies there left beside it, as far as an intact plan says."""
    try:
        return [*((read_recorded(directory) or {}).get(LEAVES, ()))]
    except UsageError:
        return []


def begin(
    directory: OutputDirectory, plan: dict[str, Any], leaves: Sequence[str] = (), record: Sequence[str] = ()
) -> None:
    """Make this the plan of the directory, and remove the work that was done by another, or by this one if its table is
    damaged. A table that lies there stays as it is, and is from now on that of another plan.

    ``leaves`` is what remains of making a table of this kind. An intact plan says itself what it left. Of it,
    ``record`` stays.
    """
    try:
        before = read_recorded(directory)
    except UsageError:
        before = None
    if before is not None and digest(before) == digest(plan):
        before = plan  # what was read has lists where this may have tuples
    if directory.storage.exists(MANIFEST):
        disown(directory.storage, before, plan)
    left = before.get(LEAVES, leaves if "extends" in before else ()) if before else leaves
    for name in (SHARDS, RECEIPTS, *(name for name in left if before != plan and name not in record)):
        directory.storage.remove(name)
    record_plan(directory, plan)


def record_plan(directory: OutputDirectory, plan: dict[str, Any]) -> None:
    """Write the plan of a directory; what was done by the one before is part of it, or was removed."""
    directory.storage.write(PLAN, sealed(dumps(tagged("plan", plan))).encode())
