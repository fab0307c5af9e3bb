"""The scoring job: plan, score what has no receipt yet, and put the shards together."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from curricle.curate.readers import Reader, named_readers
from curricle.curate.readers.inputs import InputFile, say_left_out
from curricle.pipelines import engines
from curricle.pipelines.processes.fork_server import ForkServer
from curricle.pipelines.scoring.finish import finish
from curricle.pipelines.scoring.growth import metrics_there, plan_job, unchanged
from curricle.pipelines.scoring.inputs import find_inputs
from curricle.pipelines.scoring.job import Job, make_job
from curricle.pipelines.scoring.plan import ScoringPlan, Shard, pending_shards, read_plan
from curricle.pipelines.scoring.receipts import is_done, read_receipt
from curricle.pipelines.scoring.rescore import scored_columns, scored_rows, table_scoring
from curricle.pipelines.scoring.stored import StoredTable
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.storage import in_threads
from curricle.pipelines.tables.directory import HOLDER, LIVE, PLAN, SHARDS, OutputDirectory
from curricle.pipelines.tables.exchange import REPORT
from curricle.pipelines.tables.extend import Addition
from curricle.pipelines.tables.reader import TableReader
from curricle.pipelines.tables.recorded import begin, goes_on, is_there, record_plan
from curricle.pipelines.tables.sign import is_whole, write_report
from curricle.schemas.common import stop
from curricle.schemas.common.command import asked_to_stop
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.log import printable
from curricle.schemas.common.wording import listed
from curricle.schemas.manifest import MANIFEST, Manifest, NotRead, Provenance, read_manifest

log = logging.getLogger("curricle")

_LOOKS, _LOOK_EVERY = 5, 2.0


def score(settings: ScoreSettings) -> Manifest:
    """Run the job that the settings describe, or what is left of it, and return the signed manifest."""
    directory = OutputDirectory(settings.output)
    files, not_read = _usable(settings, directory)
    directory.settle()
    job = _job(settings, directory, files)
    before = _recorded(directory)
    with engines.workers_ahead(job) as server:
        plan = plan_job(directory, job, files, not_read)
        if _is_there(directory, plan, settings.overwrite):
            log.info("already scored, nothing to do")
            is_whole()
            _tidy(directory)
        else:
            with directory.held() as run:
                if _recorded(directory) != before:  # another job has come and gone while this one surveyed its input
                    plan = plan_job(directory, job, files, not_read)
                if plan and not _is_there(directory, plan, settings.overwrite):
                    _score_held(directory, job, plan, run, server)
    if not directory.storage.exists(REPORT):
        write_report(directory)
    manifest = read_manifest(directory.storage)
    _say_description(settings, manifest)
    return manifest


def _say_description(settings: ScoreSettings, manifest: Manifest) -> None:
    """Where a finished table says another licence or other languages than are named now, those stay."""
    there = manifest.provenance or Provenance()
    options = {"license": [settings.license] if settings.license else [], "language": [*settings.language]}
    for name, values in options.items():
        if values and not {*values} <= {*getattr(there, name)}:
            stays = ", ".join(getattr(there, name)) or "none"
            words = "--%s: the table was written with %s, which stays: what was made of the table knows it as it is. "
            words += "For a table with the other, name another --output and add --reuse %s: every score is copied"
            log.warning(words, name, stays, printable(settings.output))


@dataclass(frozen=True)
class Outlook:
    """What a job would do. ``plan``: None if the table in the directory has all that is asked for.

    ``pending``: the shards that are left of the plan, none of a finished table.
    """

    directory: OutputDirectory
    job: Job
    plan: ScoringPlan | None
    pending: Sequence[Shard]


def outlook(settings: ScoreSettings) -> Outlook:
    """The same as ``score`` up to where it holds the directory: every error until there, and nothing written."""
    directory = OutputDirectory(settings.output)
    files, not_read = _usable(settings, directory)
    job = _job(settings, directory, files)
    plan = plan_job(directory, job, files, not_read)
    if plan is None or _is_there(directory, plan, settings.overwrite):
        return Outlook(directory, job, None, ())
    pending = [*pending_shards(directory, plan)] if _goes_on(directory, plan) else plan.shards
    return Outlook(directory, job, plan, pending)


def _goes_on(directory: OutputDirectory, plan: ScoringPlan) -> bool:
    """Whether shards that lie in the directory are shards of this plan."""
    recorded = _plan_there(directory)
    return recorded is not None and plan.continues(recorded) and goes_on(directory)


def _usable(settings: ScoreSettings, directory: OutputDirectory) -> tuple[list[InputFile], list[NotRead]]:
    """The inputs, and what beside them is none. UsageError if they, or the directory, cannot be used."""
    files, not_read = _inputs(settings, named_readers(settings.readers, settings.columns))
    say_left_out(not_read)
    directory.check_usable(settings.overwrite or settings.grows)
    return files, not_read


def _job(settings: ScoreSettings, directory: OutputDirectory, files: Sequence[InputFile]) -> Job:
    return make_job(settings, files, metrics_there(directory) if settings.adds_columns else ())


def _inputs(settings: ScoreSettings, readers: Sequence[Reader]) -> tuple[list[InputFile], list[NotRead]]:
    absolute = settings.source_paths == "absolute"
    return find_inputs(settings.inputs, settings.output, readers, may_be_empty=settings.append, absolute=absolute)


def _recorded(directory: OutputDirectory) -> list[bytes]:
    """Digests of what the directory says of the plan and of the table in it: whether another job changed it."""
    names = (name for name in (PLAN, MANIFEST) if directory.storage.exists(name))
    return [sha256(directory.storage.read(name)).digest() for name in names]


def _is_there(directory: OutputDirectory, plan: ScoringPlan | None, overwrite: bool) -> bool:
    """Whether the table of this plan lies in the directory, whole. UsageError if it is damaged and must stay."""
    return (plan is None or plan == _plan_there(directory)) and is_there(directory, overwrite)


def _plan_there(directory: OutputDirectory) -> ScoringPlan | None:
    try:
        return read_plan(directory)
    except UsageError:
        return None


def scored(table: TableReader, directory: OutputDirectory, names: Sequence[str], **options: Any) -> Addition:
    """Score the rows of the table with these options, as a stage of making another, and give these columns of it."""
    score(table_scoring(table, directory, **options))
    stop.go_on()
    return Addition(scored_columns(directory, names), lambda: scored_rows(directory, names))


def _tidy(directory: OutputDirectory) -> None:
    """Remove what a kill between the manifest and the end of its job left behind."""
    if directory.storage.names(SHARDS):
        with directory.held():
            directory.storage.remove(SHARDS)


def _score_held(directory: OutputDirectory, job: Job, plan: ScoringPlan, run: str, server: ForkServer | None) -> None:
    if not _goes_on(directory, plan):
        begin(directory, plan.to_json())
    elif plan != _plan_there(directory):
        record_plan(directory, plan.to_json())
    job = _with_tables(directory, job, plan)
    _score_pending(directory, job, plan, run, server)
    _check_unchanged(job, plan)
    finish(directory, job, plan, run)
    directory.storage.remove(LIVE)
    directory.storage.remove(SHARDS)


def _score_pending(
    directory: OutputDirectory, job: Job, plan: ScoringPlan, run: str, server: ForkServer | None
) -> None:
    pending = _pending(directory, plan)
    if len(pending) < len(plan.shards):
        log.info(
            "%d of %d shards were finished before; they are kept", len(plan.shards) - len(pending), len(plan.shards)
        )
    if pending:
        _run_engine(directory, job, plan, pending, run, server)


def _check_unchanged(job: Job, plan: ScoringPlan) -> None:
    """UserError if the input is not what it was when the job began: some shards may have been read since."""
    try:
        changes = unchanged(plan, job, _inputs(job.settings, job.readers)[0])
    except UsageError as error:
        changes = [f"{error.where}: {error.found}"]
    if changes:
        again = "run the same command again: it takes what is new as it is now"
        whole = "where it is still being written, let that end, or write it elsewhere and move it here when it is whole"
        anew = "give --overwrite instead of --append" if job.settings.append else "add --overwrite"
        now = f"put it back and run the same command, or {anew} to score it as it is now"
        raise UserError(
            "the input was changed while it was scored:" + listed(changes, 1000),
            where=job.settings.output,
            remedy=f"{again if plan.earlier else now}; {whole}",
        )


def _with_tables(directory: OutputDirectory, job: Job, plan: ScoringPlan) -> Job:
    """The job with the tables that its scores are copied from, which are whole. UserError if one is damaged."""
    earlier, stored = None, []
    if plan.earlier:
        table = TableReader(directory.path)
        if table.manifest_sha256 != plan.earlier:
            raise UserError(
                "the table is not the one any more to which something was to be added",
                where=directory.path,
                remedy="put it back, or make all of it again with --overwrite",
            )
        table.check_bytes()
        earlier = StoredTable.of(table, directory.absolute.path, job.columns)
        stored.append(earlier)
    metrics = [each.name for each in job.references]
    for path in job.settings.reuse:
        table = TableReader(path)
        table.check_bytes()
        stored.append(StoredTable.of(table, OutputDirectory(path).absolute.path, job.columns))
        alike = {metric for metric, _ in stored[-1].metrics}
        for kind, names in (("copied", alike), ("made otherwise or not there", {*metrics} - alike)):
            if names:
                log.info("reuse %s: %s: %s", printable(path), kind, ", ".join(sorted(names)))
    return replace(job, earlier=earlier, stored=tuple(stored))


def _pending(directory: OutputDirectory, plan: ScoringPlan) -> list[Shard]:
    """The shards that are left. Receipts that are not what was written are removed: their shards are among them."""
    left = {shard.index for shard in pending_shards(directory, plan)}

    def is_left(shard: Shard) -> bool:
        if shard.index in left:
            return True
        try:
            read_receipt(directory, shard)
        except ValueError as error:
            name = directory.receipt(shard.index)
            log.warning("%s: the receipt is damaged (%s): scored again", directory.storage.uri(name), error)
            directory.storage.remove(name)
            return True
        return False

    return [shard for shard, waits in zip(plan.shards, in_threads(is_left, plan.shards), strict=True) if waits]


def _run_engine(
    directory: OutputDirectory,
    job: Job,
    plan: ScoringPlan,
    pending: Sequence[Shard],
    run: str,
    server: ForkServer | None,
) -> None:
    from curricle.pipelines.processes.children import ended_on_request
    from curricle.pipelines.scoring.progress import JobProgress

    def how_far() -> str:
        left, shards = sum(1 for _ in pending_shards(directory, plan)), len(plan.shards)
        return f"{shards - left} of {shards} shards are finished, {left} are left"

    def last_words() -> str:
        directory.storage.remove(HOLDER)
        return f"curricle: {asked_to_stop(how_far(), 'what is finished')}"

    already = plan.records - sum(shard.slice.records for shard in pending)
    phases = {(): "starting", ("renderer",): "loading the tokenizer"}
    phase = phases.get(tuple(job.roles), "loading the model")
    progress = JobProgress(directory, run, plan.records, already, job.settings, phase)
    try:
        with progress, ended_on_request(last_words):
            engines.run(engines.Work(directory.absolute, job, pending, run, progress.check, server))
    except BaseException as error:  # whatever a runner makes of an interruption
        if stop.requested.is_set() or isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(how_far()) from error
        raise
    if undone := _without_receipt(directory, plan):
        raise UserError(
            f"{len(undone)} shards have no receipt though the engine ended (the first is {undone[0].index})",
            where=directory.path,
            remedy="run the same command again; what is finished is kept",
        )


def _without_receipt(directory: OutputDirectory, plan: ScoringPlan) -> list[Shard]:
    """What is not done after an engine ended. A shared disk may show other machines' files only after a while."""
    undone = [*pending_shards(directory, plan)]
    for _ in range(_LOOKS):
        if not undone:
            break
        time.sleep(_LOOK_EVERY)
        undone = [shard for shard in undone if not is_done(directory, shard)]
    return undone
