"""Whether an export, and what a trainer has consumed of it, is in its order: `curricle-train verify-order`."""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.wording import counted
from curricle.schemas.sums import damaged
from curricle.train.data.parquet import whole_ids
from curricle.train.data.table import open_table
from curricle.train.ordering.batches import digest_of
from curricle.train.ordering.exports.formats import FORMATS
from curricle.train.ordering.exports.orders import ORDER_FILE, rows_of
from curricle.train.ordering.exports.readers import consumed_ids, exported_ids
from curricle.train.ordering.exports.sidecar import SIDECAR, Sidecar, read_order, read_sidecar
from curricle.train.reporting.verification import Finding
from curricle.train.settings.export import VerifyOrderSettings
from numpy.typing import NDArray

Ids = NDArray[np.uint8]


def verify_order(settings: VerifyOrderSettings) -> list[Finding]:
    """A finding for the order, the files and what else is to be compared with it. UsageError if there is no export."""
    sidecar = read_sidecar(settings.directory)
    if sidecar is None:
        raise UsageError(
            f"there is no {SIDECAR} here",
            where=str(settings.directory),
            remedy="name the --output of `curricle-train export`; of a run, `curricle-train verify`",
        )
    if settings.consumed and not settings.consumed.is_file():
        raise UsageError("there is no such file", where=str(settings.consumed), remedy="check --consumed")
    return [*_findings(settings, sidecar)]


def _findings(settings: VerifyOrderSettings, sidecar: Sidecar) -> Iterator[Finding]:
    order, ids = read_order(settings.directory)
    steps = order["step"].to_numpy()
    faults = [] if digest_of(ids, steps) == sidecar.digest else [f"its ids are not those of the hash in {SIDECAR}"]
    yield Finding(
        ORDER_FILE, f"{counted(len(ids), 'row')} in {counted(sidecar.steps, 'step')}, {sidecar.digest}", faults
    )
    wrong = damaged(settings.directory, sidecar.files)
    yield Finding("files", f"{len(sidecar.files)} as they were written", wrong)
    data = FORMATS[sidecar.request["to"]]
    yield _compared(data.data, lambda: exported_ids(data, settings.directory), ids, 1, whole=True)
    if settings.consumed:
        path = settings.consumed
        yield _compared(path.name, lambda: consumed_ids(path), ids, settings.within, whole=False)
    if settings.table:
        table = open_table(settings.table)
        try:
            rows_of(table, ids, order, settings.directory / ORDER_FILE)
            faults = []
        except UserError as error:
            faults = [error.found]
        if table.fingerprint != sidecar.table["fingerprint"]:
            faults.append("its scores have another fingerprint than those of the order")
        yield Finding(settings.table.name, "the table of the order", faults)


def _compared(name: str, read: Callable[[], Ids], planned: Ids, within: int, whole: bool) -> Finding:
    """``whole``: nothing of the order may be missing; else ids may end before it does."""
    try:
        ids = read()
    except UserError as error:
        return Finding(name, "", [error.found])
    faults = _differences(ids, planned, within)
    if not faults and whole and len(ids) < len(planned):
        faults = [f"ends after {len(ids):,} of {len(planned):,}"]
    part = "all" if len(ids) == len(planned) else f"the first {len(ids):,} of"
    unit = f", within each {within:,}" if within > 1 else ""
    return Finding(name, f"{part} {counted(len(planned), 'row')}, in order{unit}", faults)


def _differences(ids: Ids, planned: Ids, within: int) -> list[str]:
    """What is wrong with ids that should be those that were planned, or the first of them."""
    mine, theirs = whole_ids(ids), whole_ids(planned)
    size = min(len(mine), len(theirs))
    differs = np.flatnonzero(_sorted(mine[:size], within) != _sorted(theirs[:size], within))
    end = size - size % within
    if size == len(mine) < len(theirs) and end < size:  # of the last step not all is there
        rest = Counter(mine[end:].tolist()) - Counter(theirs[end : end + within].tolist())
        differs = np.concatenate([differs[differs < end], [end] if rest else []]).astype(np.int64)
    faults = []
    if len(differs):
        at = int(differs[0]) // within * within
        other = np.flatnonzero(theirs == mine[at])
        where = f"which is entry {int(other[0]):,} of the order" if len(other) else "which is not in the order"
        first = f"entry {at:,} is {ids[at].tobytes().hex()}, {where}"
        what = first if within == 1 else f"the first of them among entries {at:,} to {at + within - 1:,}"
        faults.append(f"{len(differs):,} of {size:,} differ: {what}")
        if len(mine) == len(theirs) and Counter(mine.tolist()) == Counter(theirs.tolist()):
            faults.append("they are the same rows, as often, in another order")
    if len(mine) > len(theirs):
        faults.append(f"{len(mine):,} ids, and the order has {len(theirs):,}: it began again, or others came after it")
    return faults


def _sorted(ids: NDArray[np.void], within: int) -> NDArray[np.void]:
    """Ids sorted among each ``within`` that follow each other."""
    if within == 1:
        return ids
    whole = len(ids) // within * within
    return np.concatenate([np.sort(ids[:whole].reshape(-1, within), axis=1).reshape(-1), np.sort(ids[whole:])])
