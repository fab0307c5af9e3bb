"""A plan: named steps, each a command with its options, in the order that the names among these give."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from curricle.curate.readers import named_readers
from curricle.curate.readers.inputs import InputFile
from curricle.pipelines.processes.trainer import check_options
from curricle.pipelines.scoring.inputs import find_inputs
from curricle.pipelines.settings.contamination import ContaminationSettings
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.settings.select import SelectSettings
from curricle.pipelines.steps.options import (
    CURATION,
    OF_THE_PLAN,
    TABLES,
    TRAINER,
    deciding,
    is_of,
    named_paths,
    with_paths,
)
from curricle.schemas.common.config import build, nearest
from curricle.schemas.common.configfile import read_options
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.home import at_home

STEPS = "steps"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Step:
    """``options``: as the plan has them, with names of other steps; ``settings``: what of them decides what is made,
    as JSON, with defaults; ``after``: the steps that it names; ``where``: what a message calls it.
    """

    name: str
    command: str
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    after: tuple[str, ...]
    where: str
    output: str

    @cached_property
    def paths(self) -> dict[str, str]:
        """Where each table, file and model lies that an option names, by the text there."""
        return {text: self._path(text) for _, text in named_paths(self.options)}

    def _path(self, text: str) -> str:
        name, slash, below = text.partition("/")
        return (
            f"{os.path.dirname(self.output)}/{name}{slash}{below}" if name in self.after else at_home(text, self.where)
        )

    @property
    def resolved(self) -> dict[str, Any]:
        """The options with paths for the names of steps."""
        return with_paths(self.options, lambda _, text: self.paths[text])

    def curation(self, **more: Any) -> Any:
        """The settings of a command that makes tables."""
        return build(CURATION[self.command], {**self.resolved, "output": self.output, **more}, self.where)

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of the sets, each a table below the step's directory, of a split into several."""
        if self.command != "select":
            return ()
        settings: SelectSettings = self.curation()
        return tuple(settings.split_shares()) if settings.split and settings.split_only is None else ()


@dataclass(frozen=True)
class Pipeline:
    """``steps``: each after those that it names, otherwise as the file has them."""

    file: str
    output: str
    steps: tuple[Step, ...]


def read_pipeline(source: str | Mapping[str, Any], output: str | None = None) -> Pipeline:
    """The plan in a file, or in a mapping with its keys. UsageError, naming the step and the option, for what is wrong
    in it; nothing that it names is run, and nothing is written.
    """
    file = source if isinstance(source, str) else "the plan"
    values = read_options(Path(source)) if isinstance(source, str) else source
    for key in values:
        if key not in ("output", STEPS):
            raise UsageError(f"unknown key {key!r}", where=file, remedy=nearest(key, ("output", STEPS)))
    root = output or values.get("output")
    if not isinstance(root, str) or not root:
        remedy = "write `output: DIRECTORY`: each step has a directory of its name below it"
        raise UsageError("no output is named", where=file, remedy=remedy)
    steps = values.get(STEPS)
    if not isinstance(steps, Mapping) or not steps:
        remedy = "write each below `steps:` under a name of yours, with its `command:` and options"
        raise UsageError("there are no steps", where=file, remedy=remedy)
    _check_names([str(name) for name in steps], file)
    root = at_home(root, file).rstrip("/") or "/"
    read = {str(name): _read_step(str(name), about, [*map(str, steps)], file, root) for name, about in steps.items()}
    ordered = _ordered(read, file)
    settings = {step.name: _decided(step) for step in ordered if step.command in CURATION}
    trained = [step for step in ordered if step.command in TRAINER]
    checked = check_options([(TRAINER[step.command], step.options, step.where) for step in trained])
    settings |= dict(zip([step.name for step in trained], checked, strict=True))
    return Pipeline(file, root, tuple(replace(step, settings=settings[step.name]) for step in ordered))


def files_read(settings: Any) -> list[InputFile]:
    """The files that a command reads beside tables. UsageError for one that is not there."""
    if isinstance(settings, ScoreSettings):
        return find_inputs(settings.inputs, settings.output, named_readers(settings.readers, settings.columns))[0]
    if isinstance(settings, ContaminationSettings):
        return find_inputs(settings.against, readers=named_readers((), settings.columns))[0]
    return []


def _check_names(names: list[str], file: str) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name of a step", where=file, remedy="give letters, digits, - . and _")
    if len({name.lower() for name in names}) < len(names):
        raise UsageError("two steps have one name but for capitals", where=file, remedy="rename one of them")


def _read_step(name: str, about: Any, names: list[str], file: str, root: str) -> Step:
    where = f"{file}, step {name!r}"
    if not isinstance(about, Mapping):
        raise UsageError("is no step", where=where, remedy="write `command:` and its options below the name")
    options = {str(key): value for key, value in about.items()}
    command, there = options.pop("command", None), (*CURATION, *TRAINER)
    if command is None:
        raise UsageError("has no `command`", where=where, remedy=f"there are: {', '.join(there)}")
    if command not in there:
        remedy = "give `command: train`" if command == "run" else nearest(str(command), there)
        raise UsageError(f"there is no command {command!r}", where=where, remedy=remedy)
    for key in options:
        if key.replace("-", "_") in OF_THE_PLAN:
            remedy = (
                f"leave it out: the step writes to {root}/{name}, and what it made before is replaced where it differs"
            )
            raise UsageError(f"{key!r} is no option of a step", where=where, remedy=remedy)
    after = []
    for key, text in named_paths(options):
        first = text.partition("/")[0]
        if first in names:
            after.append(first)
        elif is_of(key, TABLES):
            _check_there(key, text, names, where, root)
    if command in TRAINER and "://" in root:
        raise UsageError("training writes to a local directory", where=where, remedy="name a local output")
    return Step(name, command, options, {}, tuple(dict.fromkeys(after)), where, f"{root}/{name}")


def _check_there(key: str, text: str, names: list[str], where: str, root: str) -> None:
    """UsageError for a table or file that is neither a step nor there, or is named by the path that a step has."""
    path = at_home(text, where)
    if "://" not in path:
        below = os.path.relpath(os.path.abspath(path), os.path.abspath(root)).split(os.sep)
        if below[0] in names:
            remedy = f"write {'/'.join(below)}: the step is then run before this one"
            raise UsageError(f"{key} is {text}, which a step makes", where=where, remedy=remedy)
        if not os.path.exists(path):
            remedy = f"{nearest(text, names)}; or name a path that is there"
            raise UsageError(
                f"{key} is {text}: there is no such step, and nothing at this path", where=where, remedy=remedy
            )


def _ordered(steps: Mapping[str, Step], file: str) -> list[Step]:
    sorter = TopologicalSorter({name: step.after for name, step in steps.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        remedy = "let one of them name something else"
        raise UsageError(f"steps wait for each other: {circle}", where=file, remedy=remedy) from error
    ordered, rank, ready = list[Step](), list(steps).index, list[str]()
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=rank)
        name, *ready = ready
        ordered.append(steps[name])
        sorter.done(name)
    return ordered


def _decided(step: Step) -> dict[str, Any]:
    """The options that decide what a step makes. UsageError for one that its command does not have."""
    try:
        settings = build(CURATION[step.command], {**step.options, "output": step.output}, step.where)
        files_read(settings)
    except UsageError as error:
        where = step.where if error.where in (None, step.where) else f"{step.where}: {error.where}"
        raise UsageError(error.found, where=where, remedy=error.remedy) from error
    values: dict[str, Any] = json.loads(json.dumps(deciding(settings), default=str))
    return values
