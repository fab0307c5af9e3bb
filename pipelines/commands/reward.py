"""A reward model from a table: the proxy answers every prompt, a reward is fitted to prefer the responses."""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from curricle.curate.metrics import generated
from curricle.curate.passes.models import Models
from curricle.curate.proxy.weights import Weights, resolve
from curricle.pipelines.commands.score import scored
from curricle.pipelines.processes.trainer import run_trainer
from curricle.pipelines.scoring.rescore import of_proxy
from curricle.pipelines.settings.reward import RewardSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.extend import SCORES, Addition, both_notes, extend, extending
from curricle.pipelines.tables.leave_out import LeftOut, left_out
from curricle.pipelines.tables.phase import enter
from curricle.pipelines.tables.provenance import provenance
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import REWARD_VERSION
from curricle.schemas.common.errors import UserError
from curricle.schemas.manifest import Manifest, read_manifest
from curricle.schemas.table import score_columns

log = logging.getLogger("curricle")

TRAINING = "reward_model"
ANSWERS = [column.name for column in generated.COLUMNS]
REWARDS = ["reward_reference", "reward_generated", "reward_gap"]


@dataclass(frozen=True)
class RewardPlan:
    """By which recipe a table is to get answers and rewards. ``out``: the rows that nothing is learned from."""

    table: TableReader
    weights: Weights
    recipe: dict[str, Any]
    out: LeftOut
    names = (*ANSWERS, *REWARDS)


def plan_of(settings: RewardSettings) -> RewardPlan:
    """What ``reward`` is to make. UsageError as there."""
    table, weights = TableReader(settings.table), resolve(settings.proxy.model)
    out = left_out(table, settings.leave_out)
    return RewardPlan(table, weights, _recipe(settings, weights) | out.identity, out)


def scoring_options(settings: RewardSettings) -> dict[str, Any]:
    """Of the job that answers the prompts."""
    options = {"proxy": settings.proxy, "workers": settings.workers, "shard_rows": settings.shard_rows}
    return {"metrics": (generated.METRIC.name,), **options}


def reward(settings: RewardSettings) -> Manifest:
    """Write the table with the proxy's answers and the rewards, or what is left of it, and return its manifest.

    The reward model stays in ``reward_model`` below the output. UsageError, UserError and DirectoryLocked as for
    scoring, and where `curricle-train reward` ends with them.
    """
    plan, directory = plan_of(settings), OutputDirectory(settings.output)
    table = plan.table
    with extending(table, settings.output, plan.recipe, settings.overwrite, plan.names, beside=[TRAINING]) as run:
        if run:
            answers = scored(table, directory, ANSWERS, **scoring_options(settings))
            enter(
                directory,
                run,
                f"fitting a reward on the states of {settings.proxy.model}",
                records=table.manifest.total.scored,
            )
            scores = _fit(settings, directory.storage.uri(SCORES), plan.weights)
            _check_left_out(settings, plan.out.rows)
            fitted = score_columns(scores.schema)
            assert [*fitted] == REWARDS, f"{[*fitted]} were fitted"
            text = answers.columns[0]
            rests_on = {**text.rests_on, text.name: text.fingerprint}
            columns = [*answers.columns, *(column.resting_on(rests_on) for column in fitted.values())]
            models = Models(settings.proxy)
            used = models.libraries(columns), models.origins(columns)
            origin = provenance("reward", settings, *used, [table.manifest])
            extend(table, directory, run, Addition(columns, lambda: _rows(answers, scores)), origin)
    return read_manifest(directory.storage)


def _recipe(settings: RewardSettings, weights: Weights) -> dict[str, Any]:
    """What decides the numbers, and can be told before anything is answered."""
    return {
        "made": "reward",
        "metric": generated.METRIC.identity(Models(settings.proxy)),
        **of_proxy(weights, settings.proxy),
        "generation": asdict(settings.proxy.generation),
        "reward": {"version": REWARD_VERSION, **asdict(settings.reward)},
    }


def _fit(settings: RewardSettings, answers: str, weights: Weights) -> pa.Table:
    """Fit the reward on the answers, and return the rewards of every row."""
    output = Path(settings.output, TRAINING)
    run_trainer(
        "reward",
        output,
        {
            "data": answers,
            "model": weights.directory,
            "template": settings.proxy.template,
            "max-length": settings.proxy.max_length,
            "log-format": settings.log_format,
            **({"leave-out": ",".join(settings.leave_out)} if settings.leave_out else {}),
            **asdict(settings.reward),
        },
    )
    return pq.read_table(output / "scores.parquet")


def _check_left_out(settings: RewardSettings, rows: int) -> None:
    """UserError if the trainer did not know all the rows again that were to be left out."""
    described = json.loads(Path(settings.output, TRAINING, "run.json").read_bytes()).get("left_out", {})
    if sum(described.values()) != rows:
        raise UserError(
            f"{sum(described.values()):,} of {rows:,} rows were left out: earlier versions named some rows otherwise",
            where=settings.table,
            remedy="score the table anew, split that, and run this with another --output",
        )


def _rows(added: Addition, scores: pa.Table) -> Iterator[pa.Table]:
    """The answers with the rewards beside them."""
    start = 0
    for answers in added.rows():
        rewards = scores.slice(start, answers.num_rows)
        start += answers.num_rows
        assert rewards["example_id"].to_pylist() == answers["example_id"].to_pylist(), "rows of one order"
        notes = both_notes(answers["notes"], rewards["notes"])
        columns = {name: rewards[name] for name in REWARDS}
        yield pa.table({**{name: answers[name] for name in ("example_id", *ANSWERS)}, **columns, "notes": notes})
