"""What `curricle status` says of a job: read from its directory alone, so that any machine may ask."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from curricle.pipelines.scoring.plan import pending_shards, read_plan
from curricle.pipelines.scoring.snapshot import standing
from curricle.pipelines.storage import SIGN_OF_LIFE
from curricle.pipelines.storage.held import describe as describe_holder
from curricle.pipelines.storage.held import is_gone, read_holder
from curricle.pipelines.tables.directory import HOLDER, OutputDirectory
from curricle.pipelines.tables.recorded import is_finished
from curricle.schemas.common.errors import UsageError


def describe(path: str) -> list[str]:
    """A few lines: done and left, by whom, at which rate, and until when. UsageError if no job is there."""
    directory = OutputDirectory(path)
    return list(_lines(directory, datetime.now(UTC)))


def _lines(directory: OutputDirectory, now: datetime) -> Iterator[str]:
    plan = read_plan(directory)
    if plan is None:
        raise UsageError(
            "there is no job here, or it is still reading its input",
            where=directory.path,
            remedy="name the --output of a `curricle score`",
        )
    if is_finished(directory):
        yield f"{directory.path}: finished, {plan.records:,} records in {len(plan.shards)} shards"
        return
    pending = pending_shards(directory, plan)
    already = plan.records - sum(shard.slice.records for shard in pending)
    yield f"{directory.path}: {len(plan.shards) - len(pending)} of {len(plan.shards)} shards are finished"
    holder = read_holder(directory.storage, HOLDER)
    if not holder:
        yield f"{already:,} of {plan.records:,} rows"
        yield "nobody works on it; the same `curricle score` command goes on from there"
        return
    try:
        silent = (now - datetime.fromisoformat(holder["seen"])).total_seconds()
        seconds = (now - datetime.fromisoformat(holder["since"])).total_seconds()
    except (LookupError, TypeError, ValueError):
        yield f"{already:,} of {plan.records:,} rows"
        yield f"{HOLDER} is damaged; whoever works on it writes it again in a few seconds"
        return
    run = standing(directory, str(holder.get("run")), plan.records, 0, seconds)
    yield replace(run, already=max(0, already - run.rows)).line()
    if silent > 3 * SIGN_OF_LIFE:
        yield f"{describe_holder(holder)}: no sign of life for {silent:.0f} s, so it was probably killed"
    elif is_gone(holder):
        yield f"{describe_holder(holder)}: there is no such process on this machine, so it was probably killed"
    else:
        yield f"{describe_holder(holder)}, at work"
