"""Checkpoints of a run, asked the tasks of lm-evaluation-harness: it is what published figures come from."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.wording import first_line
from curricle.train.evaluation.task import OURS, Task
from curricle.train.model.load import load_model, load_tokenizer
from curricle.train.records.checkpoints import check, checkpoints, sums
from curricle.train.records.evaluations import FOLDER, Evaluation, TaskRecord, checkpoint_lock, read_tasks, write_tasks
from curricle.train.records.run_json import RUN, no_run, runs_of_comparison
from curricle.train.settings import EvaluateSettings

log = logging.getLogger("curricle")

WEIGHTS = "model"
"""How the files of weights begin, in a checkpoint."""


def evaluate(settings: EvaluateSettings) -> Iterator[tuple[Path, list[TaskRecord]]]:
    """Ask every checkpoint that is named every task, and yield where the figures are, and what they are.

    What a checkpoint was asked already, in the same way, is not asked again. UsageError for a run that is not there, a
    checkpoint that it does not have, and a task that nobody knows.
    """
    tasks = [Task.of(text) for text in settings.tasks]
    chosen = _chosen(settings)
    with ExitStack() as stack:
        for checkpoint in chosen:
            stack.enter_context(checkpoint_lock(checkpoint))
        yield from _answers(settings, tasks, chosen)


def _answers(
    settings: EvaluateSettings, tasks: Sequence[Task], checkpoints: Sequence[Path]
) -> Iterator[tuple[Path, list[TaskRecord]]]:
    managers = _task_managers()
    for checkpoint in checkpoints:
        path = checkpoint.parents[1] / FOLDER / f"{checkpoint.name}.json"
        records = {record.task: record for record in read_tasks(path)}
        identities = {task.text: _identity(settings, task, checkpoint) for task in tasks}
        new = [
            task for task in tasks if task.text not in records or records[task.text].identity != identities[task.text]
        ]
        if new:
            check(checkpoint)
            model = _model(settings, checkpoint)
            for task in new:
                log.info("%s: %s", checkpoint, task.text)
                figures = _figures(_results(settings, model, task, managers))
                records[task.text] = TaskRecord(task.text, identities[task.text], figures)
                write_tasks(path, [*records.values()])
        else:
            log.info("%s: every task was asked before, in the same way", checkpoint)
        yield path, [records[task.text] for task in tasks]


def _chosen(settings: EvaluateSettings) -> list[Path]:
    """The checkpoints that are meant, of the run, or of every run of a comparison."""
    directory = settings.directory
    runs = [directory] if (directory / RUN).exists() else runs_of_comparison(directory)
    if not runs:
        raise no_run(directory)
    chosen = []
    for run in runs:
        saved = checkpoints(run)
        wanted = (
            [each for each in saved if settings.checkpoint in (each.name, "all")] if settings.checkpoint else saved[-1:]
        )
        if not wanted:
            found = "there is no checkpoint" + (f" {settings.checkpoint!r}" if settings.checkpoint else "")
            names = ", ".join(each.name for each in saved) or "none"
            raise UsageError(found, where=str(run), remedy=f"there are: {names}")
        chosen += wanted
    return chosen


def _identity(settings: EvaluateSettings, task: Task, checkpoint: Path) -> dict[str, Any]:
    """All that decides the figures, so that the same question is known again."""
    try:
        weights = {name: digest for name, digest in sorted(sums(checkpoint).items()) if name.startswith(WEIGHTS)}
    except FileNotFoundError:
        weights = {}
    return {
        "harness": version("lm_eval"),
        "task": task.digest,
        "weights": weights,
        "shots": settings.num_fewshot,
        "limit": settings.limit,
        "chat_template": settings.chat_template,
        "precision": settings.precision,
    }


def _model(settings: EvaluateSettings, checkpoint: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = torch.nn.Module.to(
        load_model(str(checkpoint), "auto"), device, torch.bfloat16 if settings.precision == "bf16" else torch.float32
    )
    return HFLM(
        pretrained=model.eval(),
        tokenizer=load_tokenizer(str(checkpoint)),
        batch_size=settings.batch_size,
        device=device,
    )


def _task_managers() -> Callable[[Path | None], Any]:
    """What makes the harness's manager of its own tasks, and of these and the ones in a folder, which come first.

    Each is made once: the harness reads thousands of files for its own, which takes it seconds.
    """

    @cache
    def manager(folder: Path | None) -> Any:
        from lm_eval.tasks import TaskManager

        if folder is None:
            return TaskManager()
        with_folder = TaskManager(include_path=folder, include_defaults=False)
        for name, entry in manager(None).task_index.items():
            with_folder.task_index.setdefault(name, entry)
        return with_folder

    return manager


def _results(settings: EvaluateSettings, model: Any, task: Task, managers: Callable[[Path | None], Any]) -> Any:
    """What the harness says. UsageError for a task that it does not know, UserError where it fails."""
    from lm_eval import simple_evaluate

    if settings.unsafe_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"  # what the metric of HumanEval asks for, beside the harness's own flag
    try:
        manager = managers(task.file.parent if task.file else None)
        if isinstance(task.content, str) and task.content not in manager.task_index:
            raise UsageError(
                f"lm-evaluation-harness has no task {task.content!r}",
                where="--tasks",
                remedy=_nearest(task.content, manager),
            )
        _check_own(manager, task)
        return simple_evaluate(
            model=model,
            tasks=[task.content],
            num_fewshot=settings.num_fewshot,
            limit=settings.limit,
            apply_chat_template=settings.chat_template,
            task_manager=manager,
            log_samples=False,
            confirm_run_unsafe_code=settings.unsafe_code,
        )
    except UserError:
        raise
    except Exception as error:  # of the harness, of the loader of its data, or of functions that a task names
        raise UserError(
            f"lm-evaluation-harness failed: {type(error).__name__}: {first_line(error)}",
            where=task.text,
            remedy="look whether its data can be fetched, a package is missing, or it wants --unsafe-code",
        ) from error


def _check_own(manager: Any, task: Task) -> None:
    """UsageError where the harness knows another file by the name of a task of this one: it takes one of them."""
    if not task.file:
        return
    other = manager.task_index[task.content].yaml_path
    if other is None or Path(other).resolve() != task.file:
        raise UsageError(
            f"another file has a task {task.content!r}, which the harness takes: {other}",
            where=task.text,
            remedy="give the task a name of its own",
        )


def _nearest(name: str, manager: Any) -> str:
    from difflib import get_close_matches

    if name in OURS:
        return f"{name}@FILE asks it over a file"
    close = get_close_matches(name, sorted(manager.task_index), n=3)
    return f"did you mean {' or '.join(close)}?" if close else "`lm_eval ls tasks` lists those that there are"


def _figures(results: Any) -> list[Evaluation]:
    """The figures of the task, and of those that it is a group of: ``exact_match,strict-match`` and its error."""
    figures = []
    for task, values in results["results"].items():
        samples = results.get("n-samples", {}).get(task, {}).get("effective", 0)
        shots = results.get("n-shot", {}).get(task)
        for key, value in values.items():
            metric, comma, filtered = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            error = values.get(f"{metric}_stderr,{filtered}")
            name = metric if filtered == "none" else f"{metric}, {filtered}"
            has_error = isinstance(error, (int, float)) and math.isfinite(error)
            figures.append(Evaluation(task, name, float(value), float(error) if has_error else None, samples, shots))
    return figures


def lines(path: Path, records: Sequence[TaskRecord]) -> Iterator[str]:
    """The figures of a checkpoint as text."""
    yield str(path)
    for figure in (figure for record in records for figure in record.figures):
        error = "" if figure.error is None else f" ± {figure.error:.4f}"
        shots = "" if figure.shots is None else f", {figure.shots}-shot"
        yield f"  {figure.name}: {figure.value:.4f}{error} ({figure.samples:,} questions{shots})"
