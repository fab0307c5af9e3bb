"""What commands would do: looked up and measured, and nothing below an output is written."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from curricle.pipelines.commands import lp as learning
from curricle.pipelines.commands import reward as rewards
from curricle.pipelines.commands.add import request_of
from curricle.pipelines.commands.machines import elsewhere, of_machines
from curricle.pipelines.commands.score import Outlook, outlook
from curricle.pipelines.engines.devices import describe, speed_up
from curricle.pipelines.processes.trainer import run_trainer
from curricle.pipelines.scoring.estimate import Estimate, estimate, sample, sample_of_table
from curricle.pipelines.scoring.job import Job, make_job
from curricle.pipelines.scoring.rescore import table_scoring
from curricle.pipelines.settings.add import AddSettings
from curricle.pipelines.settings.lp import LpSettings
from curricle.pipelines.settings.machines import MachinesSettings
from curricle.pipelines.settings.reward import RewardSettings
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.extend import is_extended
from curricle.pipelines.tables.making import same_path
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.common.dry_run import NOTHING_WRITTEN
from curricle.schemas.common.wording import bytes_in_words, counted

_THIS = MachinesSettings()
THERE = ("already there, nothing to do", NOTHING_WRITTEN)


def score(settings: ScoreSettings, machines: MachinesSettings = _THIS) -> Iterator[str]:
    """What ``curricle score`` would do, as lines, on ``machines`` if any are named; the errors are those that it would
    end with.
    """
    yield from _scoring(elsewhere(settings) if machines.named else settings, machines=machines)
    yield NOTHING_WRITTEN


def add(settings: AddSettings) -> Iterator[str]:
    """The same for ``curricle add``."""
    output = settings.output or settings.table
    request, directory = request_of(settings), OutputDirectory(output)
    if not request.new:
        yield "the table has all these columns, nothing to do"
        yield NOTHING_WRITTEN
        return
    if not same_path(settings.table, output) and is_extended(
        request.table, output, request.recipe, settings.overwrite, [*request.new]
    ):
        yield from THERE
        return
    yield f"added: {', '.join(request.new)}, to {counted(request.table.manifest.total.scored, 'row')}"
    yield from _scoring(table_scoring(request.table, directory, **request.options))
    yield NOTHING_WRITTEN


def lp(settings: LpSettings) -> Iterator[str]:
    """The same for ``curricle lp``; the trainer says its own part."""
    plan, directory = learning.plan_of(settings), OutputDirectory(settings.output)
    beside = [learning.TRAINING]
    if is_extended(plan.table, settings.output, plan.recipe, settings.overwrite, plan.names, beside):
        yield from THERE
        return
    yield f"added: {', '.join(plan.names)}, to {counted(plan.table.manifest.total.scored, 'row')}"
    epochs = counted(settings.epochs, "epoch")
    yield f"training: {epochs} of {counted(plan.rows, 'row')}, of which `curricle-train` says:"
    options = learning.training_options(settings, plan.rows, plan.weights.directory)
    run_trainer("run", Path(settings.output, learning.TRAINING), {**options, "dry-run": "true"})
    yield f"scoring: by the model before training and its {settings.epochs} checkpoints"
    options = learning.scoring_options(settings, plan)
    if all(checkpoint.is_dir() for checkpoint in learning.checkpoints_of(settings, plan.rows)):
        yield from _scoring(table_scoring(plan.table, directory, **options))
    else:
        options |= {"metrics": ("loss",), "proxy": settings.proxy, "compat": None}
        yield from _scoring(table_scoring(plan.table, directory, **options), settings.epochs + 1)
    yield NOTHING_WRITTEN


def reward(settings: RewardSettings) -> Iterator[str]:
    """The same for ``curricle reward``."""
    plan, directory = rewards.plan_of(settings), OutputDirectory(settings.output)
    table, rows, beside = plan.table, plan.table.manifest.total.scored, [rewards.TRAINING]
    if is_extended(table, settings.output, plan.recipe, settings.overwrite, plan.names, beside):
        yield from THERE
        return
    yield f"added: {', '.join(plan.names)}, to {counted(rows, 'row')}"
    yield "answers: the proxy draws one to each prompt"
    options = rewards.scoring_options(settings)
    yield from _scoring(table_scoring(table, directory, **options))
    yield f"fitting: the proxy reads {rows:,} responses and as many answers, each as long as it takes for a loss"
    job = make_job(table_scoring(table, directory, **{**options, "metrics": ("loss",)}))
    yield from of_estimate(job, estimate(job, sample_of_table(table, rows)), 2)
    yield NOTHING_WRITTEN


def _scoring(settings: ScoreSettings, times: int = 1, machines: MachinesSettings = _THIS) -> Iterator[str]:
    """What one scoring job would do."""
    it = outlook(settings)
    if not it.plan or not it.pending:
        yield "already scored, nothing to do" if not it.plan else "every shard is finished; they are put together"
        return
    sources, shards, job = it.plan.sources, it.plan.shards, it.job
    held = sum(source.file.bytes for source in sources)
    files, read = counted(len(sources), "file"), counted(it.plan.records, "record")
    yield f"input: {files}, {read}, {bytes_in_words(held)}; {counted(len(shards), 'shard')}"
    left = [shard for shard in it.pending if not shard.in_table]
    if len(it.pending) < len(shards):
        records = sum(shard.slice.records for shard in it.pending)
        done = len(shards) - len(it.pending)
        yield f"resumed: {done:,} of {len(shards):,} shards are finished and kept; {records:,} records are left"
    if len(left) < len(it.pending):
        yield from _in_table(it)
    if left and machines.named:
        yield from of_machines(machines, job, left, begun=len(it.pending) < len(shards))
    elif left:
        estimated = estimate(job, sample(job, left))
        yield from _reused(settings, estimated)
        yield from of_estimate(job, estimated, times)


def _in_table(it: Outlook) -> Iterator[str]:
    """What is done about the rows that the table in the directory has."""
    table, rows = TableReader(it.directory.path), sum(shard.slice.records for shard in it.pending if shard.in_table)
    yield f"kept: {rows:,} records are in the table, and are not read again"
    names = {column.metric for column in it.job.columns if column.name not in table.scores}
    if names:
        new = replace(it.job, references=tuple(each for each in it.job.references if each.name in names))
        yield f"added to those: {', '.join(column.name for column in it.job.columns if column.metric in names)}"
        yield from of_estimate(new, estimate(new, sample_of_table(table, rows)))


def _reused(settings: ScoreSettings, it: Estimate) -> Iterator[str]:
    for path in settings.reuse:
        ids = {one for group in TableReader(path).groups(["example_id"]) for one in group["example_id"].to_pylist()}
        there = sum(one in ids for one in it.ids)
        yield (
            f"reuse: {there:,} of {it.sampled:,} sampled rows are in {path}; what of theirs is made alike is copied, "
            "and the time below is without that"
        )


def of_estimate(job: Job, it: Estimate, times: int = 1) -> Iterator[str]:
    """Lines on tokens, time and memory of a job. ``times``: how often its passes are made."""
    settings = job.settings
    sampled = f"by a sample of {counted(it.sampled, 'row')}"
    if it.rejected:
        yield f"rejects: {it.rejected:,} of {it.sampled + it.rejected:,} sampled records are no example"
    if it.rejected and not it.sampled:
        yield "tokens, time and memory: unknown, for nothing in the sample could be measured"
        return
    if it.tokens:
        yield f"tokens: {it.tokens.count} in the rows to score, as the proxy reads them, {sampled}"
    names = ", ".join(each.name for each in job.metrics)
    seconds = it.seconds * (times / speed_up(job))
    models = f", after {it.loading:.0f} s to load the models" if it.loading >= 1 else ""
    yield f"time: {seconds.time}{models}: {names}, measured here {sampled}"
    if not settings.starts_workers:
        yield f"time: that is of one worker like this machine; with --engine {settings.engine} it is shared by all"
    elif gpus := describe(job):
        yield f"GPUs: {gpus}"
    elif job.asks_model and job.workers > 1:
        yield f"time: {job.workers} workers here share the same cores, which one was measured with"
    each = " a worker" if job.workers > 1 or not settings.starts_workers else ""
    yield it.memory.line(each)
