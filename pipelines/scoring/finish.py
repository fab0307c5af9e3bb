"""The end of a scoring job: its shards become the table, with a ledger of every source, signed."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from threading import Thread

from curricle.curate.readers.inputs import InputFile
from curricle.pipelines.scoring.compact import ShardFile, compact
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.plan import ScoringPlan, Shard
from curricle.pipelines.scoring.receipts import Receipt, read_receipt
from curricle.pipelines.storage import in_threads
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

_COUNTED = ("read", "scored", "rejected", "reused")
_NAMED = 20
"""Notes that a log names; the table has them all."""


def finish(directory: OutputDirectory, job: Job, plan: ScoringPlan, run: str) -> None:
    """Compact the shards, and write manifest, card and report: the manifest last of what must be there."""
    enter(directory, run, "putting the shards together", records=plan.records, shards=len(plan.shards))
    # for the report's pictures; meanwhile Parquet is written, without Python's lock
    Thread(target=import_module, args=["matplotlib.backends.backend_svg"]).start()
    of = _Receipts()
    for receipt in in_threads(partial(_receipt, directory), plan.shards):
        of.add(receipt)
    data = compact(directory, run, "data", of.files(), job.schema)
    rejects: list[Part] = []
    if of.rejects:
        rejects = compact(directory, run, "rejects", of.files_of_rejects(), rejects_schema(job.fingerprint))
    sources = [_ledger(source.file, source.sha256, of.counts[source.file.name]) for source in plan.sources]
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
            spent.seconds + of.seconds,
            spent.tokens + of.tokens,
        ),
    )
    sign(directory, run, manifest, job.schema)
    if total.reused:
        log.info("scores of %s were copied, of %d in all", counted(total.reused, "row"), total.scored)
    _say_noted(of.noted)


class _Receipts:
    """What all receipts say together, and the digests that each has of its files: they are many, and not kept."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """By source, what its ledger has"""
        self.noted: Counter[str] = Counter()
        self.seconds, self.tokens = 0.0, 0
        self.shards: list[bytes] = []
        self.rejects: dict[int, bytes] = {}

    def add(self, receipt: Receipt) -> None:
        assert receipt.shard == len(self.shards), "they come in order"
        self.counts[receipt.source].update({key: getattr(receipt, key) for key in _COUNTED})
        self.noted.update(receipt.noted)
        self.seconds += receipt.seconds
        self.tokens += receipt.tokens
        self.shards.append(_sha256(receipt, OutputDirectory.shard))
        if receipt.rejected:
            self.rejects[receipt.shard] = _sha256(receipt, OutputDirectory.shard_rejects)

    def files(self) -> Iterator[ShardFile]:
        """The file of each shard, in order, with what its receipt says of it."""
        return (_file(index, OutputDirectory.shard, sha256) for index, sha256 in enumerate(self.shards))

    def files_of_rejects(self) -> Iterator[ShardFile]:
        return (_file(index, OutputDirectory.shard_rejects, sha256) for index, sha256 in self.rejects.items())


def _sha256(receipt: Receipt, name: Callable[[int], str]) -> bytes:
    return bytes.fromhex(receipt.files[name(receipt.shard).rpartition("/")[2]])


def _file(index: int, name: Callable[[int], str], sha256: bytes) -> ShardFile:
    return ShardFile(name(index), sha256.hex(), OutputDirectory.receipt(index))


def _say_noted(noted: Counter[str]) -> None:
    """What the rows' fields say that the conversations do not."""
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


def _ledger(file: InputFile, sha256: str, counts: Counter[str]) -> Source:
    return Source(source=file.name, bytes=file.bytes, sha256=sha256, **{key: counts[key] for key in _COUNTED})


def _total(sources: Sequence[Source]) -> Counts:
    return Counts(
        read=sum(source.read for source in sources),
        scored=sum(source.scored for source in sources),
        rejected=sum(source.rejected for source in sources),
        reused=sum(source.reused for source in sources),
    )
