"""What `curricle status` says of a job: read from its directory alone, so that any machine may ask."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from curricle.pipelines.scoring.plan import pending_shards, plan_of
from curricle.pipelines.scoring.snapshot import Standing, standing
from curricle.pipelines.storage import SIGN_OF_LIFE
from curricle.pipelines.storage.held import describe as describe_holder
from curricle.pipelines.storage.held import is_gone, read_holder
from curricle.pipelines.tables.directory import HOLDER, OutputDirectory
from curricle.pipelines.tables.extend import SCORES
from curricle.pipelines.tables.phase import published
from curricle.pipelines.tables.recorded import is_finished, read_recorded
from curricle.schemas.common.command import State
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import counted
from curricle.schemas.manifest import read_manifest


@dataclass(frozen=True)
class Status:
    """How a job stands.

    ``state``: done; running; stopped, where nobody works on it; dead, where who did has ended without a word.
    ``phase``, ``rate`` (of ``unit`` a second) and ``seconds_left`` are of a running job alone, and None where it has
    not said. ``gpus``: by worker, as ``HOST-PROCESS``, those that it has claimed.
    """

    directory: str
    state: State
    records: int
    records_done: int
    shards: int
    shards_done: int
    rejects: int = 0
    tokens: int = 0
    phase: str | None = None
    rate: float | None = None
    unit: str | None = None
    seconds_left: float | None = None
    holder: str | None = None
    silent_seconds: float | None = None
    gpus: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """One object, all in one line."""
        return json.dumps(asdict(self))

    def lines(self) -> Iterator[str]:
        if self.state == "done":
            shards = f" in {counted(self.shards, 'shard')}" if self.shards else ""
            yield f"{self.directory}: finished, {counted(self.records, 'record')}{shards}"
            return
        if self.shards:
            yield f"{self.directory}: {self.shards_done} of {counted(self.shards, 'shard')} are finished"
            yield self._work()
        else:
            yield f"{self.directory}: {self.phase or self.state}"
        if self.state == "running":
            yield (
                f"{self.holder}, at work"
                if self.holder
                else (f"{HOLDER} is damaged; whoever works on it writes it again in a few seconds")
            )
            yield from (f"worker {worker} has the GPU {gpus}" for worker, gpus in sorted(self.gpus.items()))
        elif self.state == "dead":
            why = "there is no such process on this machine"
            if self.silent_seconds is not None:
                why = f"no sign of life for {self.silent_seconds:.0f} s"
            yield f"{self.holder}: {why}, so it was probably killed; the same command goes on from there"
        else:
            yield "nobody works on it; the same command goes on from there"

    def _work(self) -> str:
        """How far it is, in rows."""
        if self.state != "running":
            return f"{self.records_done:,} of {self.records:,} rows"
        now = Standing(self.records, 0, self.records_done, self.rejects, self.tokens, self.phase, self.rate)
        return replace(now, seconds_left=self.seconds_left, unit=self.unit or "rows").line()


def describe(path: str) -> list[str]:
    """A few lines: done and left, by whom, at which rate, and until when. UsageError if no job is there."""
    return [*status_of(path).lines()]


def status_of(path: str) -> Status:
    """How the job of a directory stands. UsageError if no job is there."""
    directory, now = OutputDirectory(path), datetime.now(UTC)
    recorded = read_recorded(directory)
    if recorded is None:
        raise UsageError(
            "there is no job here, or it is still reading its input",
            where=directory.path,
            remedy="name the --output of a `curricle score`",
        )
    if "recipe" in recorded:
        return _of_recipe(directory, now)
    finished = is_finished(directory)
    plan = plan_of(recorded, directory)
    del recorded  # its text has as many slices as the plan
    records, shards = plan.records, len(plan.shards)
    if finished:
        return Status(directory.path, "done", records, records, shards, shards)
    done, shards_done = records, shards
    for shard in pending_shards(directory, plan):
        done, shards_done = done - shard.slice.records, shards_done - 1
    status = Status(directory.path, "stopped", records, done, shards, shards_done)
    holder = read_holder(directory.storage, HOLDER)
    if not holder:
        return status
    status = _held(status, holder, now)
    if status.state != "running" or status.holder is None:
        return status
    run = standing(directory, str(holder.get("run")), plan.records, 0)
    return replace(
        status,
        records_done=max(0, done - run.rows) + run.rows,
        rejects=run.rejects,
        tokens=run.tokens,
        gpus=run.gpus,
        **published(directory, str(holder.get("run"))),
    )


def _of_recipe(directory: OutputDirectory, now: datetime) -> Status:
    """The same where a table is made of others: what it is at, and its scoring job while it has one."""
    if is_finished(directory):
        rows = read_manifest(directory.storage).total.scored
        return Status(directory.path, "done", rows, rows, 0, 0)
    stage = OutputDirectory(directory.storage.uri(SCORES))
    scoring = Status(directory.path, "stopped", 0, 0, 0, 0)
    if read_recorded(stage) is not None:
        scoring = status_of(stage.path)
    status = replace(scoring, directory=directory.path, state="stopped", holder=None, silent_seconds=None)
    holder = read_holder(directory.storage, HOLDER)
    if holder:
        status = _held(status, holder, now)
    if status.state == "running" and scoring.state != "running":
        return replace(status, **published(directory, str(holder.get("run"))))
    return status


def _held(status: Status, holder: dict[str, Any], now: datetime) -> Status:
    """The same of a job that somebody has in hand, or had."""
    try:
        silent = (now - datetime.fromisoformat(holder["seen"])).total_seconds()
    except (LookupError, TypeError, ValueError):
        return replace(status, state="running")
    named = describe_holder(holder)
    if silent > 3 * SIGN_OF_LIFE:
        return replace(status, state="dead", holder=named, silent_seconds=silent)
    if is_gone(holder):
        return replace(status, state="dead", holder=named)
    return replace(status, state="running", holder=named)
