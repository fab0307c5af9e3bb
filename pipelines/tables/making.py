"""Tables that are made from finished tables: where they may be written, and whether they are there already."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.exchange import REPORT
from curricle.pipelines.tables.reader import TableReader
from curricle.pipelines.tables.recorded import LEAVES, begin, goes_on, is_finished, is_there, left_beside, read_recorded
from curricle.pipelines.tables.sign import is_whole, write_report
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.wording import listed
from curricle.schemas.fingerprint import differences
from curricle.schemas.manifest import MANIFEST


def check_output(directory: OutputDirectory, table: TableReader, overwrite: bool) -> None:
    """UsageError if the path is the table's own, holds something else, or cannot be written."""
    if same_path(table.path, directory.path):
        raise UsageError("is the table itself", where=directory.path, remedy="name a directory of its own")
    directory.check_usable(overwrite)


def same_path(one: str, other: str) -> bool:
    if "://" in one or "://" in other:
        return one.rstrip("/") == other.rstrip("/")
    return Path(one).resolve() == Path(other).resolve()


def check_plan(directory: OutputDirectory, plan: dict[str, Any], overwrite: bool) -> None:
    """UsageError, naming what differs, if the directory holds something else that is not to be overwritten."""
    _is_begun(directory, {**plan, LEAVES: []}, overwrite, over_itself=False)


def is_made(directory: OutputDirectory, plan: dict[str, Any], overwrite: bool, leaves: Sequence[str] = ()) -> bool:
    """Whether the table of this plan lies in the directory, whole. UsageError as for ``making``; nothing is written."""
    return _is_begun(directory, {**plan, LEAVES: [*leaves]}, overwrite, False) and is_there(directory, overwrite)


@contextmanager
def making(
    directory: OutputDirectory,
    plan: dict[str, Any],
    overwrite: bool,
    leaves: Sequence[str] = (),
    over_itself: bool = False,
) -> Iterator[str | None]:
    """Hold the directory while a table is made by this plan, and report on it; yields the run, or None if it is there.

    What lies there of another plan stays until the new table replaces it; what that ``leaves`` beside its table
    goes first. UsageError, naming what differs, if it is not to be overwritten.

    ``over_itself``: a finished table that lies there is to be replaced, and keeps what was left beside it.
    """
    directory.settle()
    record = [name for name in left_beside(directory) if name not in leaves] if over_itself else []
    plan = {**plan, LEAVES: [*leaves, *record]}
    if _is_begun(directory, plan, overwrite, over_itself) and is_there(directory, overwrite):
        yield None
    else:
        with directory.held() as run:
            if over_itself:
                _check_unchanged(directory, plan["extends"])
            begun = _is_begun(directory, plan, overwrite, over_itself)
            if begun and is_there(directory, overwrite):  # another job has come and gone
                yield None
            else:
                if not begun or not goes_on(directory):
                    begin(directory, plan, leaves, record)
                yield run
    is_whole()
    if not directory.storage.exists(REPORT):
        write_report(directory)


def _check_unchanged(directory: OutputDirectory, manifest_sha256: str) -> None:
    """UserError if the table is not the one any more that was read before the directory was held."""
    if sha256(directory.storage.read(MANIFEST)).hexdigest() != manifest_sha256:
        raise UserError(
            "the table was replaced since it was read", where=directory.path, remedy="run the same command again"
        )


def _is_begun(directory: OutputDirectory, plan: dict[str, Any], overwrite: bool, over_itself: bool) -> bool:
    """Whether this plan lies in the directory. UsageError, naming what differs, if another does and is to be kept."""
    try:
        recorded = read_recorded(directory)
    except UsageError:
        if overwrite:
            return False
        raise
    if recorded is None:
        return False
    changes = differences({LEAVES: plan[LEAVES]} | recorded, plan)
    if changes and not overwrite and not (over_itself and is_finished(directory)):
        raise UsageError(
            "holds something else; these differ:" + listed(changes),
            where=directory.path,
            remedy="name another --output, or add --overwrite: a finished table stays until the new one is whole",
        )
    return not changes
