"""Learning percentage from a table: train the proxy on it, score it with each checkpoint, add the columns."""

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from curricle.curate.metrics import lp as learning
from curricle.curate.passes.models import Models
from curricle.curate.proxy.weights import Weights, resolve
from curricle.pipelines.commands.score import scored
from curricle.pipelines.processes.trainer import run_trainer
from curricle.pipelines.scoring.rescore import of_proxy
from curricle.pipelines.settings.lp import PUBLISHED, LpSettings
from curricle.pipelines.tables.directory import PLAN, OutputDirectory
from curricle.pipelines.tables.extend import Addition, extend, extending, with_notes
from curricle.pipelines.tables.leave_out import LeftOut, left_out
from curricle.pipelines.tables.phase import enter
from curricle.pipelines.tables.provenance import provenance
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.wording import counted
from curricle.schemas.manifest import MANIFEST, Manifest, read_manifest

log = logging.getLogger("curricle")

TRAINING = "training"


@dataclass(frozen=True)
class LpPlan:
    """Which columns a table is to get, by which recipe, after training on so many ``rows``; not on those ``out``."""

    table: TableReader
    weights: Weights
    names: list[str]
    recipe: dict[str, Any]
    out: LeftOut
    rows: int


def plan_of(settings: LpSettings) -> LpPlan:
    """What ``lp`` is to make. UsageError as there."""
    table, weights = TableReader(settings.table), resolve(settings.proxy.model)
    metric = learning.metric(settings.epochs + 1, settings.compat)
    out = left_out(table, settings.not_trained_on)
    recipe = _recipe(settings, weights, metric.identity(Models(settings.proxy)), out.identity)
    names = [column.name for column in metric.columns]
    return LpPlan(table, weights, names, recipe, out, table.manifest.total.scored - out.rows)


def lp(settings: LpSettings) -> Manifest:
    """Write the table with learning percentages, or what is left of it, and return its manifest.

    The checkpoints stay in ``training`` below the output. UsageError, UserError and DirectoryLocked as for scoring, and
    where `curricle-train run` ends with them.
    """
    plan, directory, models = plan_of(settings), OutputDirectory(settings.output), Models(settings.proxy)
    table, names, recipe, out = plan.table, plan.names, plan.recipe, plan.out
    with extending(table, settings.output, recipe, settings.overwrite, names, beside=[TRAINING]) as run:
        if run:
            try:
                _train(settings, plan, run)
            except UsageError:
                if not Path(settings.output, TRAINING).exists() and not directory.storage.exists(MANIFEST):
                    directory.storage.remove(PLAN)  # nothing is made yet: other options may be given
                raise
            added = scored(table, directory, names, **scoring_options(settings, plan))
            training = {"training": recipe["training"]}
            columns = [column.resting_on({**column.rests_on, **training}) for column in added.columns]
            rows = partial(with_notes, added.rows, out.note("lp_1: no model was trained on this row"))
            origin = provenance("lp", settings, models.libraries(columns), models.origins(columns), [table.manifest])
            extend(table, directory, run, Addition(columns, rows if out.rows else added.rows), origin)
    return read_manifest(directory.storage)


def _recipe(
    settings: LpSettings, weights: Weights, metric: dict[str, Any], without: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What decides the numbers, and can be told before anything is trained.

    The length of the schedule stands in it where it is not that of the training, and which rows are left out where some
    are: as it always was.
    """
    scheduled = settings.scheduled_epochs
    return {
        "made": "lp",
        "metric": metric,
        **of_proxy(weights, settings.proxy),
        "training": {
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "seed": settings.seed,
            **({"schedule_epochs": scheduled} if scheduled > settings.epochs else {}),
            **(without or {}),
            **PUBLISHED,
            **settings.train,
        },
    }


def _train(settings: LpSettings, plan: LpPlan, run: str) -> None:
    """Train on every row that is not left out, in random order, with a checkpoint of each epoch.

    A run that is finished is left as it is.
    """
    words = f"training {settings.proxy.model} on {plan.rows:,} rows for {counted(settings.epochs, 'epoch')}"
    enter(OutputDirectory(settings.output), run, words, records=plan.rows, epochs=settings.epochs)
    options = training_options(settings, plan.rows, plan.weights.directory)
    run_trainer("run", Path(settings.output, TRAINING), options)
    for checkpoint in checkpoints_of(settings, plan.rows):
        if not checkpoint.is_dir():
            remedy = "copy it back, or train again with --overwrite"
            raise UserError("the checkpoint of an epoch is gone", where=str(checkpoint), remedy=remedy)


def checkpoints_of(settings: LpSettings, rows: int) -> list[Path]:
    """The checkpoint of each epoch: a batch never spans two of them, so the last one of an epoch ends with it."""
    steps, directory = _steps_an_epoch(settings, rows), Path(settings.output, TRAINING, "checkpoints")
    return [directory / f"step-{epoch * steps:08d}" for epoch in range(1, settings.epochs + 1)]


def scoring_options(settings: LpSettings, plan: LpPlan) -> dict[str, Any]:
    """Of the job that scores the table with every checkpoint."""
    checkpoints = map(str, checkpoints_of(settings, plan.rows))
    return {
        "metrics": ("lp",),
        "proxy": replace(settings.proxy, checkpoints=(settings.proxy.model, *checkpoints)),
        "workers": settings.workers,
        "shard_rows": settings.shard_rows,
        "compat": settings.compat,
    }


def training_options(settings: LpSettings, rows: int, model: Path) -> dict[str, object]:
    """The options of `curricle-train run` for so many rows to train on; what is not among them has its default."""
    scheduled = settings.scheduled_epochs
    return {
        "data": settings.table,
        "model": model,
        "template": settings.proxy.template,
        "max-length": settings.proxy.max_length,
        "curriculum": "random",
        "seed": settings.seed,
        "budget.samples": settings.epochs * rows,
        "batch.size": settings.batch_size,
        "optimizer.lr": settings.learning_rate,
        **({"optimizer.horizon": scheduled * rows} if scheduled > settings.epochs else {}),
        "checkpoint.every": _steps_an_epoch(settings, rows),
        "checkpoint.keep": settings.epochs,
        "log.format": settings.log_format,
        **({"leave-out": ",".join(settings.leave_out)} if settings.leave_out else {}),
        **{key.replace("_", "-"): value for key, value in (PUBLISHED | settings.train).items()},
    }


def _steps_an_epoch(settings: LpSettings, rows: int) -> int:
    return -(-rows // settings.batch_size)
