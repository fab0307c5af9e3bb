"""A function beside each command of ``curricle-train``: the same options as keywords, the same refusals as exceptions.

What each option means and what it is when it is left out stands in ``curricle.train.settings``, and is what
``curricle-train COMMAND --help`` prints. A group of options is a mapping, or an instance of its class there:
``batch={"size": 16}``.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack

from curricle.schemas.common.config import build
from curricle.schemas.common.disk import check_writable
from curricle.schemas.common.errors import UsageError
from curricle.train.settings import (
    BatchSettings,
    BatchSize,
    BudgetSettings,
    CheckpointSettings,
    CompareSettings,
    DeviceSettings,
    EvalSettings,
    EvaluateSettings,
    LogSettings,
    LoraSettings,
    OptimizerSettings,
    PlanSettings,
    ReportSettings,
    RewardSettings,
    RunSettings,
    RunStatusSettings,
    VerifySettings,
    identity,
)
from curricle.train.settings.export import ExportSettings, Target, VerifyOrderSettings

if TYPE_CHECKING:
    from curricle.train.distributed import Processes
    from curricle.train.ordering.exports.sidecar import Sidecar
    from curricle.train.ordering.plan import Plan
    from curricle.train.records.comparison import ComparisonStatus
    from curricle.train.records.evaluations import TaskRecord
    from curricle.train.records.status import RunStatus
    from curricle.train.reporting.verification import Finding

StrPath: TypeAlias = str | os.PathLike[str]
Template: TypeAlias = Literal["chat", "alpaca", "plain"]
S = TypeVar("S")
P = TypeVar("P")


class TrainOptions(TypedDict, total=False):
    """Options of every training run, whatever its order."""

    join: Sequence[StrPath]
    template: Template
    max_length: int
    leave_out: Sequence[StrPath]
    subset: int
    budget: BudgetSettings | Mapping[str, Any]
    batch: BatchSettings | Mapping[str, Any]
    optimizer: OptimizerSettings | Mapping[str, Any]
    lora: LoraSettings | Mapping[str, Any]
    device: DeviceSettings | Mapping[str, Any]
    eval: EvalSettings | Mapping[str, Any]
    checkpoint: CheckpointSettings | Mapping[str, Any]
    log: LogSettings | Mapping[str, Any]


class RunOptions(TrainOptions, total=False):
    """Options of ``run``."""

    curriculum: str
    curriculum_options: Mapping[str, Any]
    seed: int
    replay: StrPath | None


class CompareOptions(TrainOptions, total=False):
    """Options of ``compare``."""

    arms: Sequence[str]
    seeds: int
    learning_rates: Sequence[float]
    tuning_seeds: int
    average: Literal["token", "row"]
    scoring_tokens: int | None
    jobs: int


class PlanOptions(TypedDict, total=False):
    """Options of ``plan``."""

    join: Sequence[StrPath]
    journal: StrPath | None
    curriculum: str
    curriculum_options: Mapping[str, Any]
    seed: int
    batch: BatchSize | Mapping[str, Any]
    leave_out: Sequence[StrPath]
    subset: int
    budget: BudgetSettings | Mapping[str, Any]
    columns: Sequence[str]
    eval: EvalSettings | Mapping[str, Any]


class EvaluateOptions(TypedDict, total=False):
    """Options of ``evaluate``."""

    checkpoint: str | None
    num_fewshot: int | None
    limit: int | None
    chat_template: bool
    batch_size: int
    device: str | None
    precision: Literal["fp32", "bf16"]
    unsafe_code: bool
    log_format: Literal["text", "json"]


class ExportOptions(TypedDict, total=False):
    """Options of ``export``."""

    order_options: Mapping[str, Any]
    columns: Sequence[str]
    unfit: Literal["refuse", "leave-out"]
    curriculum: str
    join: Sequence[StrPath]
    seed: int
    leave_out: Sequence[StrPath]
    subset: int
    budget: BudgetSettings | Mapping[str, Any]
    batch: BatchSize | Mapping[str, Any]
    eval: EvalSettings | Mapping[str, Any]
    log_format: Literal["text", "json"]


class RewardOptions(TypedDict, total=False):
    """Options of ``reward``."""

    join: Sequence[StrPath]
    leave_out: Sequence[StrPath]
    generated: str
    template: Template
    max_length: int
    seed: int
    l2: float
    batch_tokens: int
    device: DeviceSettings | Mapping[str, Any]
    log_format: Literal["text", "json"]


def run(data: StrPath, model: str, output: StrPath, **options: Unpack[RunOptions]) -> Path:
    """Train a model on a scored table in the order of a curriculum, and return the last checkpoint.

    ``data``: a directory that ``curricle score`` wrote, or Parquet files with its columns. ``model``: a causal language
    model: a directory, ``org/name`` of the hub, a ``.gguf`` file, or ``smollm2-135m`` or ``gemma3-270m``. ``output``:
    the directory of the run; the same call resumes it, and so does the command. Under torchrun every process makes the
    same call.
    ``options``: those of ``curricle-train run --help``, with ``_`` for ``-``. A group of them is a mapping,
    ``budget={"samples": 64}``, or an instance of its class in ``curricle.train.settings``; what ``--curriculum.KEY``
    sets is in ``curriculum_options={"KEY": …}``. Left out, the order is CAMPUS and the budget one epoch.

    Raises UsageError for what is wrong before anything is written, and UserError for what stops a run.
    """
    from curricle.train.training.preparation import prepare

    settings = _settings(RunSettings, "run", data=data, model=model, output=output, **options)
    prepared = prepare(_in_one_process(settings))
    from curricle.train.training.loop import train

    return _together(train, prepared)


def compare(data: StrPath, model: str, output: StrPath, **options: Unpack[CompareOptions]) -> Path:
    """Train several orders over several seeds at the same budget, and return the path of ``compare.md``.

    ``arms``: the orders, ``NAME`` or ``NAME?key=value&key=value``. Rows have to be held out: ``eval={"rows": 100}``, or
    ``eval={"data": {"code": "code.parquet", "math": "math.parquet"}}``. ``jobs``: runs at a time, each in a process.
    ``options``: these and the others of ``curricle-train compare --help``, as for ``run``.
    Raises UsageError and UserError as ``run`` does.
    """
    from curricle.train.comparison.preparation import prepare

    settings = _settings(CompareSettings, "compare", data=data, model=model, output=output, **options)
    prepared = prepare(_in_one_process(settings))
    from curricle.train.comparison.run import train_all

    return _together(train_all, prepared)


def reward(data: StrPath, model: str, output: StrPath, **options: Unpack[RewardOptions]) -> Path:
    """Fit a reward model to references over a model's own answers, score both, and return the directory.

    ``data``: a table with a column of generated answers. ``options``: those of ``curricle-train reward --help``, as for
    ``run``. Raises UsageError for what is wrong before anything is written, and UserError where there is no pair to
    learn from.
    """
    from curricle.train.rewards.preparation import prepare

    settings = _settings(RewardSettings, "reward", data=data, model=model, output=output, **options)
    prepared = prepare(_in_one_process(settings))
    from curricle.train.rewards.run import fit_and_score

    return _together(fit_and_score, prepared)


def plan(data: StrPath | None, output: StrPath, **options: Unpack[PlanOptions]) -> "Plan":
    """Write what a curriculum would visit, or what a journal did visit: ``plan.parquet``, ``.html`` and ``.png``.

    No model is needed. ``train.order`` gives an order in memory. ``options``: those of ``curricle-train plan --help``,
    as for ``run``; ``journal`` is the ``journal.jsonl`` of a run, or its directory: ``data`` may be None then, and is
    that of the run. Raises UsageError, before anything is written, if the student would have to be asked for what no
    column holds, or the table does not fit.
    """
    from curricle.train.reporting.plan import write_plan

    return write_plan(_settings(PlanSettings, "plan", data=data, output=output, **options))[0]


def evaluate(
    directory: StrPath, tasks: str | Sequence[str], **options: Unpack[EvaluateOptions]
) -> "dict[Path, list[TaskRecord]]":
    """Ask the checkpoints of a run, or of all runs of a comparison, tasks of lm-evaluation-harness.

    The figures by the file that they are written to. ``options``: those of ``curricle-train evaluate --help``, as for
    ``run``. Raises UsageError for a run, a checkpoint or a task that is not there, UserError where the harness fails.
    """
    tasks = tasks.split(",") if isinstance(tasks, str) else tasks
    settings = _settings(EvaluateSettings, "evaluate", directory=directory, tasks=tasks, **options)
    check_writable(settings.directory)
    from curricle.train.evaluation.harness import evaluate

    return dict(evaluate(settings))


def report(directory: StrPath) -> Path:
    """Write ``report.html`` in the directory of a run, and return its path: what was learned, when, and at what cost.

    Raises UsageError where there is no run.
    """
    from curricle.train.reporting.page import write_report

    settings = _settings(ReportSettings, "report", directory=directory)
    check_writable(settings.directory)
    return write_report(settings.directory)


def verify(directory: StrPath) -> "list[Finding]":
    """Read every byte of a run, a comparison or a reward model: a ``Finding`` for each file and checkpoint.

    All is whole where no finding has ``faults``, a list of what is wrong. Raises UsageError where there is no run.
    """
    from curricle.train.reporting.verification import verify

    return verify(_settings(VerifySettings, "verify", directory=directory).directory)


def status(directory: StrPath) -> "RunStatus | ComparisonStatus":
    """How far a run or a comparison is, how fast, and whether somebody works on it; from its directory alone.

    Raises UsageError where there is neither.
    """
    return status_of(_settings(RunStatusSettings, "status", directory=directory).directory)


def status_of(directory: Path) -> "RunStatus | ComparisonStatus":
    """The same of a path."""
    from curricle.train.records.comparison import is_comparison, status_of_comparison
    from curricle.train.records.run_json import read_description
    from curricle.train.records.status import status_of_run

    if not read_description(directory) and is_comparison(directory):
        return status_of_comparison(directory)
    return status_of_run(directory)


def export(table: StrPath, order: str, to: Target, output: StrPath, **options: Unpack[ExportOptions]) -> "Sidecar":
    """Write the rows of a table in an order, as another trainer reads them, and return what ``order.json`` says.

    ``order``: a curriculum that never asks, with its options in ``order_options``; the path of a run, its journal, or a
    ``plan.parquet``; a column; or ``"table"``. ``to``: ``"jsonl"``, ``"hf"``, ``"axolotl"``, ….
    ``options``: those of ``curricle-train export --help``, as for ``run``. Raises UsageError, before anything is
    written, for what does not fit, and UserError where the trainer could not read rows.
    """
    from curricle.train.ordering.exports.export import export

    return export(_settings(ExportSettings, "export", table=table, order=str(order), to=to, output=output, **options))


def verify_order(
    directory: StrPath, consumed: StrPath | None = None, *, within: int = 1, table: StrPath | None = None
) -> "list[Finding]":
    """Look whether an export, and the ids in ``consumed``, are in its order: all is, where no finding has ``faults``.

    ``consumed``: ids one a line, or JSON lines or Parquet with ``example_id``; they may end before the order does.
    ``within``: so many may be in any order among themselves. ``table``: to see that the order is over its rows.
    Raises UsageError where there is no export.
    """
    from curricle.train.reporting.order_verification import verify_order

    options = {"directory": directory, "consumed": consumed, "within": within, "table": table}
    return verify_order(_settings(VerifyOrderSettings, "verify_order", **options))


def check_options() -> None:
    """For a process that runs this package as another: reads commands with their options from standard input as JSON,
    and writes the options that decide what each learns, or why it is refused. Nothing else is read.
    """
    json.dump([_checked(*request) for request in json.load(sys.stdin)], sys.stdout)


def _checked(command: str, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    from curricle.train.comparison.arms import arms_of
    from curricle.train.curricula import build as build_curriculum

    try:
        if command == "run":
            run = build(RunSettings, {**options, "output": "output"}, where)
            build_curriculum(run.curriculum, run.curriculum_options)
            return identity(run)
        comparison = build(CompareSettings, {**options, "output": "output"}, where)
        for arm in arms_of(comparison):
            build_curriculum(arm.curriculum, arm.options)
        return identity(comparison)
    except UsageError as error:
        whose = where if error.where in (None, where) else f"{where}: {error.where}"
        return {"found": error.found, "where": whose, "remedy": error.remedy}


def _settings(cls: type[S], name: str, **values: Any) -> S:
    return build(cls, values, f"train.{name}")


def _in_one_process(settings: S) -> S:
    """The settings; UsageError where they ask for more processes than have been started."""
    nproc = settings.device.nproc  # type: ignore[attr-defined]
    if nproc > 1 and "RANK" not in os.environ:
        raise UsageError(
            f"device.nproc is {nproc}, and a function has one process",
            remedy="use the command, or start your program with torchrun",
        )
    return settings


def _together(work: "Callable[[P, Processes], Path]", prepared: P) -> Path:
    """The work of a command in the processes that torchrun has started, or in this one alone."""
    from curricle.train.distributed import connect

    processes = connect()
    try:
        return work(prepared, processes)
    finally:
        processes.disconnect()
