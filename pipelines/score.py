"""The scoring job: plan, score what has no receipt yet, compact, sign."""

import json
import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.card import dataset_card
from curate.formats import Format, named
from curate.metric import Metric, Needs
from curate.metrics import select
from curate.proxy.weights import Weights, resolve
from pipelines.compact import compact
from pipelines.directory import OutputDirectory, read_json
from pipelines.inputs import InputFile, find_inputs
from pipelines.plan import Plan, Shard, changed_inputs, require_records, survey_inputs
from pipelines.settings import ScoreSettings
from schemas.errors import UsageError, UserError
from schemas.fingerprint import canonical_json, differences, digest
from schemas.manifest import Cost, Counts, Manifest, Part, Source, read_manifest
from schemas.table import CONTRACT, rejects_schema, table_schema

log = logging.getLogger("curricle")


@dataclass(frozen=True)
class Job:
    """What to compute, on what, and with which proxy: everything that workers are told."""

    settings: ScoreSettings
    metrics: tuple[Metric, ...]
    weights: Weights | None
    format: Format | None
    identity: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        return digest(self.identity)

    @property
    def needs(self) -> Needs:
        return max(metric.needs for metric in self.metrics)

    @property
    def schema(self) -> pa.Schema:
        columns = [column for metric in self.metrics for column in metric.signed_columns]
        return table_schema(columns, self.fingerprint)

    @property
    def reading(self) -> dict[str, Any]:
        """The options that decide what a record becomes, beside the scores' identity."""
        settings = self.settings
        return {
            "format": settings.format,
            "prompt_field": settings.prompt_field,
            "response_field": settings.response_field,
            "max_record_bytes": settings.max_record_bytes,
        }


def make_job(settings: ScoreSettings) -> Job:
    """Resolve names to things: metrics, format, proxy weights. Errors here cost nothing yet."""
    metrics = tuple(select(settings.metrics))
    format = named(settings.format, settings.prompt_field, settings.response_field)
    identity: dict[str, Any] = {
        "contract": CONTRACT,
        "metrics": {metric.name: metric.identity() for metric in metrics},
    }
    needs = max(metric.needs for metric in metrics)
    weights = None
    if needs >= Needs.TOKENS:
        from curate.proxy.rendering import Renderer

        weights = resolve(settings.proxy.model)
        identity["rendering"] = Renderer(weights, settings.proxy).identity()
    if needs >= Needs.LOSS and weights is not None:
        identity["proxy"] = {
            "weights": weights.identity,
            "dtype": settings.proxy.dtype,
            "backend": settings.proxy.backend,
        }
    return Job(settings, metrics, weights, format, json.loads(canonical_json(identity)))


def score(settings: ScoreSettings) -> Manifest:
    """Run the job that the settings describe, or what is left of it, and return the signed manifest."""
    directory = OutputDirectory(Path(settings.output))
    files, ignored = find_inputs(settings.inputs, settings.output)
    if ignored:
        log.info("left out, no format for them: %s", ", ".join(ignored))
    directory.check_usable()
    job = make_job(settings)
    plan = _recorded_plan(directory, job, files)
    if plan is not None and directory.manifest.exists():
        log.info("already scored, nothing to do")
        _tidy(directory)
    else:
        plan = plan or _survey(job, files)
        with directory.held() as run:
            # another job may have come and gone while this one surveyed its input
            recorded = _recorded_plan(directory, job, files)
            if recorded is None or not directory.manifest.exists():
                _score_held(directory, job, recorded or plan, run)
    if not directory.report.exists():
        write_report(directory)
    return read_manifest(directory.root)


def write_report(directory: OutputDirectory) -> None:
    """Write, or write again, the page that a person looks at first."""
    from curate.report import report_page

    directory.write_text(directory.report, report_page(directory.root))


def _tidy(directory: OutputDirectory) -> None:
    """Remove what a kill between the manifest and the end of its job left behind."""
    if directory.shard(0).parent.exists():
        with directory.held():
            shutil.rmtree(directory.shard(0).parent)


def _score_held(directory: OutputDirectory, job: Job, plan: Plan, run: str) -> None:
    if _needs_clearing(directory, plan):
        directory.clear()
    directory.write_json(directory.plan, plan.to_json())
    shards = plan.shards
    pending = [shard for shard in shards if not _is_done(directory, shard)]
    if len(pending) < len(shards):
        log.info("%d of %d shards were finished before; they are kept", len(shards) - len(pending), len(shards))
    if pending:
        _run_pipeline(directory, job, plan, pending, run)
    receipts = [read_json(directory.receipt(shard.index)) for shard in shards]
    _finish(directory, job, plan, receipts)
    shutil.rmtree(directory.live)
    shutil.rmtree(directory.shard(0).parent)


def _survey(job: Job, files: Sequence[InputFile]) -> Plan:
    settings = job.settings
    sources = []
    for source in survey_inputs(files, job.format, settings.shard_rows, settings.max_record_bytes):
        sources.append(source)
    require_records(sources)
    plan = Plan(job.fingerprint, job.identity, job.reading, tuple(sources))
    log.info("%d records in %d files, %d shards", plan.records, len(sources), len(plan.shards))
    return plan


def _recorded_plan(directory: OutputDirectory, job: Job, files: Sequence[InputFile]) -> Plan | None:
    """The plan that lies in the directory if it is this job's; None if there is none or it is to be replaced.

    Raises UsageError, naming what differs, if it is another job's.
    """
    if not directory.plan.exists():
        return None
    plan = Plan.from_json(read_json(directory.plan))
    changes = differences(plan.identity, job.identity)
    changes += differences(plan.reading, job.reading)
    changes += changed_inputs(plan, files)
    if not changes:
        return plan
    if job.settings.overwrite:
        return None
    listed = "".join(f"\n  - {change}" for change in changes[:10])
    raise UsageError(
        f"holds another job's scores; these differ:{listed}",
        where=str(directory.root),
        remedy="name another --output, or add --overwrite to throw the scores away and start again",
    )


def _needs_clearing(directory: OutputDirectory, plan: Plan) -> bool:
    if directory.plan.exists():
        return Plan.from_json(read_json(directory.plan)) != plan
    return directory.manifest.exists() or any(directory.receipt(0).parent.iterdir())


def _is_done(directory: OutputDirectory, shard: Shard) -> bool:
    """A shard is done if its receipt is there and so are the files that the receipt names."""
    path = directory.receipt(shard.index)
    return path.exists() and all((directory.shard(0).parent / name).exists() for name in read_json(path)["files"])


def _run_pipeline(directory: OutputDirectory, job: Job, plan: Plan, pending: Sequence[Shard], run: str) -> None:
    # Beam costs seconds to import, and a run that has nothing to score does not need it.
    from pipelines.beam import run_locally
    from pipelines.progress import Progress

    already = plan.records - sum(shard.slice.records for shard in pending)
    with Progress(directory.live, plan.records, already):
        run_locally(directory, job, pending, run)
    left = [shard.index for shard in pending if not _is_done(directory, shard)]
    if left:
        raise UserError(
            f"{len(left)} shards have no receipt though the pipeline ended (the first is {left[0]})",
            where=str(directory.root),
            remedy="run the same command again; what is finished is kept",
        )


def _finish(directory: OutputDirectory, job: Job, plan: Plan, receipts: Sequence[dict[str, Any]]) -> None:
    """Compact the shards, and write manifest, card and report: the manifest last of what must be there."""
    data = compact(directory, "data", [directory.shard(receipt["shard"]) for receipt in receipts], job.schema)
    rejected = [directory.shard_rejects(receipt["shard"]) for receipt in receipts if receipt["rejected"]]
    rejects: list[Part] = []
    if rejected:
        rejects = compact(directory, "rejects", rejected, rejects_schema(job.fingerprint))
    of_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for receipt in receipts:
        of_source[receipt["source"]].append(receipt)
    sources = [_ledger(source.file, source.sha256, of_source[source.file.name]) for source in plan.sources]
    total = _total(sources)
    assert total.read == plan.records == total.scored + total.rejected, f"{total} of {plan.records} records"
    manifest = Manifest(
        contract=CONTRACT,
        fingerprint=job.fingerprint,
        identity=job.identity,
        total=total,
        sources=sources,
        data=data,
        rejects=rejects,
        cost=Cost(
            seconds=round(sum(receipt["seconds"] for receipt in receipts), 3),
            tokens=sum(receipt["tokens"] for receipt in receipts),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        ),
    )
    columns = [column for metric in job.metrics for column in metric.signed_columns]
    directory.write_text(directory.root / "README.md", dataset_card(manifest, columns))
    directory.write_json(directory.manifest, manifest.model_dump())


def _ledger(file: InputFile, sha256: str, receipts: Sequence[dict[str, Any]]) -> Source:
    counts = {key: sum(receipt[key] for receipt in receipts) for key in ("read", "scored", "rejected")}
    return Source(source=file.name, bytes=file.bytes, sha256=sha256, **counts)


def _total(sources: Sequence[Source]) -> Counts:
    return Counts(
        read=sum(source.read for source in sources),
        scored=sum(source.scored for source in sources),
        rejected=sum(source.rejected for source in sources),
    )
