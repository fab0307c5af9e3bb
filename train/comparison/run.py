"""Several arms at the same budget, over several seeds, in one table and one picture."""

import io
import json
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
from curricle.schemas.common.disk import write_whole
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.manifest import MANIFEST, read_manifest
from curricle.train.comparison.arms import BASELINE, Arm, Trial
from curricle.train.comparison.figures import Curve, Runs, Spending, incomparable, read_curve, read_spending, rows_of
from curricle.train.comparison.page import comparison_page
from curricle.train.comparison.picture import picture
from curricle.train.comparison.preparation import ComparisonPlan, prepare, tunes
from curricle.train.comparison.render import markdown, sections
from curricle.train.comparison.runs import Runner
from curricle.train.curricula import build
from curricle.train.data.table import Table
from curricle.train.distributed import Processes, Stop
from curricle.train.records.comparison import comparing
from curricle.train.settings import CompareSettings

log = logging.getLogger("curricle")


def compare(settings: CompareSettings, processes: Processes, stop: Stop | None = None) -> Path:
    """``prepare`` and ``train_all``."""
    return train_all(prepare(settings), processes, stop)


def train_all(plan: ComparisonPlan, processes: Processes, stop: Stop | None = None) -> Path:
    """Train every arm with every seed, and write ``compare.html``, ``compare.md``, ``.json`` and ``.png``.

    Every arm has the same budget, rows and seeds. With several learning rates, each arm is trained with each, and gets
    the one with which its own loss on the tuning sets is lowest. What has finished is not trained again.
    """
    settings, table = plan.settings, plan.table
    if settings.jobs > 1 and processes.world > 1:
        raise UsageError(
            f"--jobs {settings.jobs}, and {processes.world} processes a run", remedy="leave out --jobs under torchrun"
        )
    if processes.first:
        if rows := plan.held_for_tuning:
            log.info("tuning: the learning rates are judged on %d rows that are held out of those to train on", rows)
        for note in table.notes:  # a run prints them into its own log
            log.info("  %s", note)
        _say_steps(plan.steps)
    with comparing(settings.output, plan.runs) if processes.first else nullcontext():
        _make(plan, processes, stop or Stop(processes))
    return settings.output / "compare.md"


def _make(plan: ComparisonPlan, processes: Processes, stop: Stop) -> None:
    """Train what is not trained, and write what comes of it. ``stop``: one for all runs."""
    settings, arms = plan.settings, plan.arms
    runner = Runner(settings.jobs, plan.runs, processes, stop)
    tried = _tried(settings, arms, runner) if tunes(settings) else {}
    rates = {arm.text: _best(arm.text, tried[arm.text]) if tried else arm.rates(settings)[0] for arm in arms}
    first = settings.tuning_seeds if tried else 0
    runner.make(
        [Trial.of(arm, rates[arm.text], seed, settings) for seed in range(first, settings.seeds) for arm in arms]
    )
    if processes.first:
        _write(settings, [_runs(settings, arm, rates[arm.text], tried, plan.table) for arm in arms])


def _say_steps(steps: Mapping[str, int | None]) -> None:
    shown = (f"{arm} {'not known' if count is None else f'{count:,}'}" for arm, count in steps.items())
    log.info("optimizer steps of a run, as expected: %s", ", ".join(shown))
    base = steps[BASELINE]
    for arm, count in steps.items():
        if base and count and (words := incomparable(count, base)):
            log.warning("%s: %s", arm, words)


def _tried(settings: CompareSettings, arms: Sequence[Arm], runner: Runner) -> dict[str, dict[float, float]]:
    """By arm and learning rate, the mean loss on the tuning sets."""
    trials = [
        Trial.of(arm, rate, seed, settings)
        for seed in range(settings.tuning_seeds)
        for arm in arms
        for rate in arm.rates(settings)
    ]
    diverged = runner.make(trials, may_diverge=True)
    losses: dict[str, dict[float, list[float]]] = {}
    for trial in trials:
        loss = math.inf if trial.output in diverged else read_curve(trial.output, settings.average).tuning
        if loss is None:
            raise UsageError(
                "the tuning set has no row with a response",
                where=str(trial.output),
                remedy="give another --eval.tuning",
            )
        losses.setdefault(trial.arm.text, {}).setdefault(trial.rate, []).append(loss)
    return {arm: {rate: float(np.mean(of)) for rate, of in by_rate.items()} for arm, by_rate in losses.items()}


def _best(arm: str, tried: Mapping[float, float]) -> float:
    if math.isinf(min(tried.values())):
        raise UserError(f"{arm}: the loss is not finite with any of the learning rates", remedy="try lower ones")
    return min(tried, key=tried.__getitem__)


def _runs(
    settings: CompareSettings, arm: Arm, rate: float, tried: Mapping[str, Mapping[float, float]], table: Table
) -> Runs:
    curves = [
        read_curve(Trial.of(arm, rate, seed, settings).output, settings.average) for seed in range(settings.seeds)
    ]
    others = [
        read_spending(Trial.of(arm, other, seed, settings).output)
        for other in tried.get(arm.text, {})
        if other != rate
        for seed in range(settings.tuning_seeds)
    ]
    scoring = _scoring(settings, arm, table, curves[0])
    return Runs(arm.text, rate, curves, tried.get(arm.text, {}), sum(others, Spending()), scoring)


def _scoring(settings: CompareSettings, arm: Arm, table: Table, curve: Curve) -> Spending | None:
    """What scoring the table took, where the arm reads a column that a model made; None where that is not known.

    FLOPs are those of a forward pass of the student over as many tokens: no table says how large its proxy was.
    """
    columns = build(arm.curriculum, arm.options).columns()
    if not any(table.asks_a_model(column) for column in columns):
        return Spending()
    tokens = settings.scoring_tokens
    if tokens is None and (settings.data / MANIFEST).is_file():
        manifest = read_manifest(settings.data)
        tokens = None if manifest.selected_from else manifest.cost.tokens
    if tokens is None:
        return None
    return Spending(tokens, tokens * curve.training.flops / curve.training.tokens / 3)


def _write(settings: CompareSettings, arms: Sequence[Runs]) -> None:
    rows, output = rows_of(arms, BASELINE), settings.output
    for row in rows:
        if row.incomparable:
            log.warning("%s: %s", row.arm, row.incomparable)
        if row.edge:
            log.warning(
                "%s: the best learning rate, %g, is the %s of those tried: try further ones",
                row.arm,
                row.learning_rate,
                row.edge,
            )
    record = {
        "baseline": BASELINE,
        "average": settings.average,
        "rows": [asdict(row) for row in rows],
        "runs": [
            {
                "arm": runs.arm,
                "seed": seed,
                "learning_rate": runs.rate,
                "steps": curve.steps[-1],
                "loss": curve.loss[-1],
                "means": curve.means,
                "sets": curve.sets,
                "training": asdict(curve.training),
                "probes": asdict(curve.probes),
                "seconds": curve.seconds,
            }
            for runs in arms
            for seed, curve in enumerate(runs.curves)
        ],
        "curves": {runs.arm: [asdict(curve) for curve in runs.curves] for runs in arms},
    }
    write_whole(output / "compare.json", json.dumps(record, indent=1))
    tables = [*sections(rows, arms, settings)]
    write_whole(output / "compare.md", markdown(tables))
    write_whole(output / "compare.html", comparison_page(rows, arms, tables, settings))
    image = io.BytesIO()
    picture(arms, rows).savefig(image, dpi=150)
    write_whole(output / "compare.png", image.getvalue())
