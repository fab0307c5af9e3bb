"""The end of a scoring job: its shards become the table, with a ledger of every source, signed."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from curricle.curate.readers.inputs import InputFile
from curricle.pipelines.scoring.compact import ShardFile, compact
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.plan import ScoringPlan, Shard
from curricle.pipelines.scoring.receipts import Receipt, read_receipt
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.phase import enter
from curricle.pipelines.tables.sign import sign
from curricle.schemas.common.errors import UserError
from curricle.schemas.common.log import printable
from curricle.schemas.common.wording import counted
from curricle.schemas.contract import CONTRACT
from curricle.schemas.identity import column_fingerprints
from curricle.schemas.manifest import Cost, Counts, Manifest, Part, Source
from curricle.schemas.table import rejects_schema

log = logging.getLogger("curricle")

READERS = 16
"""Receipts that are read at once: from an object store each is a request."""
_NAMED = 20
"""Notes that a log names; the table has them all."""


def finish(directory: OutputDirectory, job: Job, plan: ScoringPlan, run: str) -> None:
    """Compact the shards, and write manifest, card and report: the manifest last of what must be there."""
    enter(directory, run, "putting the shards together", records=plan.records, shards=len(plan.shards))
    with ThreadPoolExecutor(READERS) as pool:
        receipts = list(pool.map(partial(_receipt, directory), plan.shards))
    data = compact(directory, run, "data", _files(receipts, directory.shard), job.schema)
    rejected = _files([receipt for receipt in receipts if receipt.rejected], directory.shard_rejects)
    rejects: list[Part] = []
    if rejected:
        rejects = compact(directory, run, "rejects", rejected, rejects_schema(job.fingerprint))
    of_source: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        of_source[receipt.source].append(receipt)
    sources = [_ledger(source.file, source.sha256, of_source[source.file.name]) for source in plan.sources]
    total = _total(sources)
    spent = job.earlier.reader.manifest.cost if job.earlier else Cost(seconds=0, tokens=0, created="")
    assert total.read == plan.records == total.scored + total.rejected, f"{total} of {plan.records} records"
    manifest = Manifest(
        contract=CONTRACT,
        fingerprint=job.fingerprint,
        identity=job.identity,
        columns=column_fingerprints(job.identity),
        total=total,
        sources=sources,
        data=data,
        rejects=rejects,
        not_read=list(plan.not_read),
        provenance=job.origin(
            [job.earlier.reader.manifest] if job.earlier else [],
            [table.reader.manifest for table in job.stored if table != job.earlier and table.metrics],
        ),
        cost=Cost.now(
            spent.seconds + sum(receipt.seconds for receipt in receipts),
            spent.tokens + sum(receipt.tokens for receipt in receipts),
        ),
    )
    sign(directory, run, manifest, job.schema)
    if total.reused:
        log.info("scores of %s were copied, of %d in all", counted(total.reused, "row"), total.scored)
    _say_noted(receipts)


def _say_noted(receipts: Sequence[Receipt]) -> None:
    """What the rows' fields say that the conversations do not."""
    noted: Counter[str] = Counter()
    for receipt in receipts:
        noted.update(receipt.noted)
    for note, rows in noted.most_common(_NAMED):
        log.warning("%s: %s", counted(rows, "row"), printable(note))


def _receipt(directory: OutputDirectory, shard: Shard) -> Receipt:
    """UserError if it was damaged since it was written: it is withdrawn, so that the same command scores it again."""
    try:
        return read_receipt(directory, shard)
    except ValueError as error:
        name = directory.receipt(shard.index)
        directory.storage.remove(name)
        remedy = "check the disk; the same command scores this shard again"
        raise UserError(f"is damaged: {error}", where=directory.storage.uri(name), remedy=remedy) from error


def _files(receipts: Sequence[Receipt], name: Callable[[int], str]) -> list[ShardFile]:
    """The file of that kind of each shard, with what its receipt says of it."""
    names = [name(receipt.shard) for receipt in receipts]
    return [
        ShardFile(path, receipt.files[path.rpartition("/")[2]], OutputDirectory.receipt(receipt.shard))
        for path, receipt in zip(names, receipts, strict=True)
    ]


def _ledger(file: InputFile, sha256: str, receipts: Sequence[Receipt]) -> Source:
    counts = {
        key: sum(getattr(receipt, key) for receipt in receipts) for key in ("read", "scored", "rejected", "reused")
    }
    return Source(source=file.name, bytes=file.bytes, sha256=sha256, **counts)


def _total(sources: Sequence[Source]) -> Counts:
    return Counts(
        read=sum(source.read for source in sources),
        scored=sum(source.scored for source in sources),
        rejected=sum(source.rejected for source in sources),
        reused=sum(source.reused for source in sources),
    )
