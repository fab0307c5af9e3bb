"""A plan from its first step to its last: each that is done is left as it is, and each other one is made."""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from curricle.pipelines.processes.trainer import run_trainer, write_report
from curricle.pipelines.steps.content import changes, inputs_of, product_of
from curricle.pipelines.steps.options import TRAINER, with_texts
from curricle.pipelines.steps.plan import Pipeline, Step
from curricle.pipelines.steps.record import StepRecord, read_record, record_path
from curricle.pipelines.storage import Storage, open_storage
from curricle.pipelines.tables.directory import PLAN, OutputDirectory
from curricle.schemas.common import stop
from curricle.schemas.common.dry_run import NOTHING_WRITTEN
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.secrets import redacted
from curricle.schemas.common.wording import shortened
from curricle.schemas.manifest import MANIFEST, read_manifest

log = logging.getLogger("curricle")

_ASIDE, _OPTIONS = "_progress/replaced", "_progress/steps/{}.options.json"
ESTIMATED = ("score", "add", "lp", "reward")
"""Commands of tables that have a dry run."""
_NAMED = 5
"""Differences that a line names."""


@dataclass(frozen=True)
class StepResult:
    """``ran``: whether it was made now, or in a dry run whether it would be; ``reason``: why, in words."""

    name: str
    command: str
    output: str
    ran: bool
    reason: str


@dataclass(frozen=True)
class _Standing:
    """What is to be done about a step. ``before``: what was recorded of it, if anything; ``now``: what is to be;
    ``anew``: what is there is not gone on with.
    """

    before: StepRecord | None
    now: StepRecord
    reason: str
    done: bool = False
    anew: bool = False


def run(plan: Pipeline, log_format: str = "text") -> list[StepResult]:
    """Make every step that is not done, in order, and return what became of each.

    UsageError before anything is made where a step's directory holds what this plan did not make; UserError,
    UsageError and DirectoryLocked, naming the step, where its command ends with them.
    """
    directory = OutputDirectory(plan.output)
    _check_usable(directory)
    for result in forecast(plan):
        log.info("%s: %s", result.name, result.reason)
    with directory.held():
        return [_make(step, directory.storage, log_format) for step in plan.steps]


def forecast(plan: Pipeline) -> list[StepResult]:
    """What would become of each step. UsageError for what ``run`` would refuse before it makes anything."""
    storage, results = OutputDirectory(plan.output).storage, dict[str, StepResult]()
    for step in plan.steps:
        standing = _standing(step, storage)
        follows = [name for name in step.after if results[name].ran]
        reason, there = standing.reason, standing.before is not None and standing.before.product is not None
        if follows and there:
            reason = f"follows {', '.join(follows)}: if that makes something else, {step.output} is replaced"
        elif there and not standing.done:
            reason += f"; {step.output} {'grows' if _grows(step) else 'is replaced'}"
        results[step.name] = StepResult(
            step.name, step.command, step.output, bool(follows) or not standing.done, reason
        )
    return list(results.values())


def outlook(plan: Pipeline) -> Iterator[str]:
    """What would become of each step, and what it would take, as lines; nothing is written below the output.

    What a step takes that rests on others is known when these are made. Errors are those of ``forecast``, and of the
    dry run of a step's own command.
    """
    storage, results = OutputDirectory(plan.output).storage, forecast(plan)
    would = {result.name for result in results if result.ran}
    for step, result in zip(plan.steps, results, strict=True):
        yield f"{step.name}: {'would run' if result.ran else 'would not run'}: it {result.reason}"
        if waits := [name for name in step.after if name in would]:
            yield f"  what it takes can be told when {', '.join(waits)} {'is' if len(waits) == 1 else 'are'} made"
        elif result.ran:
            yield from (f"  {line}" for line in _estimate(step, _standing(step, storage)) if line != NOTHING_WRITTEN)
    yield NOTHING_WRITTEN


def _estimate(step: Step, standing: _Standing) -> Iterator[str]:
    """What the dry run of a step's command says; the trainer, another process, says its own part."""
    if step.command in TRAINER:
        yield f"`curricle-train {TRAINER[step.command]}` says:"
        with TemporaryDirectory(prefix="curricle-") as private:
            options = Path(private, "options.json")
            options.write_text(json.dumps(with_texts(step.resolved, _written)))
            # what is there of other options is set aside before the step is made
            output = Path(private, step.name) if standing.anew and _is_there(step) else Path(step.output)
            run_trainer(TRAINER[step.command], output, {"config": options, "dry-run": "true"})
    elif step.command in ESTIMATED:
        dry_run = import_module("curricle.pipelines.commands.dry_run")
        yield from getattr(dry_run, step.command)(_settings(step, standing.now.replaces, "text"))
    else:
        yield f"`{step.command}` asks no model: it takes reading the table, and writing another"


def _check_usable(directory: OutputDirectory) -> None:
    if any(directory.storage.exists(name) for name in (MANIFEST, PLAN)):
        found = "is a table, or one in the making, and not a directory of steps"
        raise UsageError(found, where=directory.path, remedy="name another output")


def _standing(step: Step, storage: Storage) -> _Standing:
    before = read_record(storage, step.name)
    now = StepRecord.of(step, inputs_of(step, before.inputs if before else {}))
    if before is None:
        return _Standing(None, now, "is to be made")
    changed = [*before.changes(now), *changes(before.inputs, now.inputs)]
    if before.product is None:
        reason = f"was begun, and is begun anew: {_listed(changed)}" if changed else "was begun, and goes on"
        return _Standing(before, replace(now, replaces=before.replaces or bool(changed)), reason, anew=bool(changed))
    if not _is_there(step):
        return _Standing(before, now, "was removed, and is made again")
    if product_of(before.command, step.output, before.sets) != before.product:
        raise UsageError(
            "what is there is not as this plan made it: it is damaged, or was changed by hand",
            where=f"{step.where}: {step.output}",
            remedy="remove that directory, and it is made again; or copy it elsewhere first",
        )
    if not changed:
        return _Standing(before, now, "is done", done=True)
    return _Standing(before, replace(now, replaces=True), f"is made again: {_listed(changed)}", anew=True)


def _listed(changed: list[str]) -> str:
    return shortened([f"{line:.200}" for line in changed], "; ", _NAMED)


def _is_there(step: Step) -> bool:
    return any(name != "_progress/lock" for name in open_storage(step.output).names(""))


def _make(step: Step, storage: Storage, log_format: str) -> StepResult:
    stop.go_on()
    standing = _standing(step, storage)
    if not standing.done:
        trained = step.command in TRAINER
        log.info("step %s: %s", step.name, f"curricle-train {TRAINER[step.command]}" if trained else step.command)
        # what nobody recorded may be somebody else's: its command goes on with it, or refuses it
        unrecorded = standing.before is None and _is_there(step)
        if not unrecorded:
            if standing.anew and _is_moved(step, standing.before):
                _set_aside(step, storage)
            standing.now.write(storage, step.name)
        try:
            _run(step, storage, standing.now.replaces, log_format)
        except UserError as error:
            remedy = error.remedy
            if unrecorded:
                remedy = f"{remedy}\n  This plan did not make {step.output}, and does not replace it: move it elsewhere"
            elif isinstance(error, UsageError):
                _restore(step, storage, standing.before)
            where = f"{step.where}: {error.where}" if error.where not in (None, step.where) else step.where
            raise type(error)(error.found, where=where, remedy=remedy) from error
        product = product_of(step.command, step.output, step.sets)
        if product is None:
            raise UserError("ended, and what it made is not whole", where=step.where, remedy="run this again")
        replace(standing.now, product=product).write(storage, step.name)
    storage.remove(f"{_ASIDE}/{step.name}")
    _check_rejects(step)
    return StepResult(step.name, step.command, step.output, not standing.done, standing.reason)


def _is_moved(step: Step, before: StepRecord | None) -> bool:
    """Whether what is there is moved before the command runs: one that makes a table replaces a table by itself."""
    assert before is not None, "only what was recorded is begun anew"
    return any((step.command in TRAINER, before.command in TRAINER, step.sets, before.sets)) and _is_there(step)


def _aside(step: Step) -> Path:
    return Path(os.path.dirname(step.output), _ASIDE, step.name)


def _set_aside(step: Step, storage: Storage) -> None:
    """Keep what is there until what replaces it is whole; of what was not whole itself, one is enough."""
    if "://" in step.output:
        remedy = "remove it, or name another output"
        raise UsageError("what lies at an address is not moved", where=f"{step.where}: {step.output}", remedy=remedy)
    aside = _aside(step)
    if aside.exists():
        storage.remove(step.name)
    else:
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(step.output, aside)


def _restore(step: Step, storage: Storage, before: StepRecord | None) -> None:
    """What was recorded, and what was there, before a command that was refused. What it has begun is this plan's."""
    if before is None:
        if not _is_there(step):
            storage.remove(record_path(step.name))
        return
    before.write(storage, step.name)
    if "://" not in step.output and _aside(step).exists() and not _is_there(step):
        storage.remove(step.name)
        os.replace(_aside(step), step.output)


def _grows(step: Step) -> bool:
    return step.command == "score" and step.curation().grows


def _settings(step: Step, replaces: bool, log_format: str) -> Any:
    """What is scored again is copied from the table that is replaced, as far as it is made alike."""
    if _grows(step):
        return step.curation(log_format=log_format)
    options: dict[str, Any] = {"overwrite": replaces, "log_format": log_format}
    if step.command in ("score", "add") and replaces and open_storage(step.output).exists(MANIFEST):
        options["reuse"] = [*step.resolved.get("reuse", ()), step.output]
    return step.curation(**options)


def _run(step: Step, storage: Storage, replaces: bool, log_format: str) -> None:
    if step.command not in TRAINER:
        settings = _settings(step, replaces, log_format)
        module = import_module(f"curricle.pipelines.commands.{step.command}")  # a plan that is done imports none
        getattr(module, "split" if step.sets else step.command)(settings)
        return
    output, options = Path(step.output), _OPTIONS.format(step.name)
    written = with_texts(step.resolved, _written)
    storage.write(options, json.dumps(written, indent=1).encode())
    run_trainer(TRAINER[step.command], output, {"config": storage.uri(options), "log.format": log_format})
    if step.command == "train":
        write_report(output)


def _written(text: str) -> str:
    """A text as a file of options is read, with the names of variables for what came from the environment."""
    return redacted(text.replace("${", "$${"))


def _check_rejects(step: Step) -> None:
    """UserError where more of what a step read was rejected than it allows: what follows would rest on the rest."""
    if step.command != "score":
        return
    total, most = read_manifest(open_storage(step.output)).total, step.curation().max_reject_fraction
    if total.rejected > most * total.read:
        share = f"{total.rejected:,} of {total.read:,} records were rejected, more than max_reject_fraction {most:g}"
        remedy = f"look at {step.output}/rejects; where they are meant to go, set max_reject_fraction of the step"
        raise UserError(share, where=step.where, remedy=remedy)
