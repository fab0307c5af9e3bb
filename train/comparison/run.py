"""Several arms at the same budget, over several seeds, in one table and one picture."""

import io
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from curricle.schemas.common.disk import refuse_links, write_whole
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.manifest import MANIFEST, read_manifest
from curricle.train.comparison.arms import BASELINE, Arm, Trial, arms_of
from curricle.train.comparison.figures import Curve, Runs, Spending, incomparable, read_curve, read_spending, rows_of
from curricle.train.comparison.picture import picture
from curricle.train.comparison.render import markdown
from curricle.train.comparison.runs import Runner
from curricle.train.curricula import build
from curricle.train.data.holdout import split
from curricle.train.data.table import Table
from curricle.train.distributed import Processes, Stop
from curricle.train.loop import order_of
from curricle.train.ordering.order import course_of, cut
from curricle.train.ordering.rehearsal import Rehearsal
from curricle.train.records.run_json import rows_digest_of
from curricle.train.settings import CompareSettings

log = logging.getLogger("curricle")

MOST_TUNING = 500
"""Rows that are held out for tuning where no set is given, and at most a tenth of those to train on."""


def compare(settings: CompareSettings, processes: Processes, stop: Stop | None = None) -> Path:
    """Train every arm with every seed, and write ``compare.md``, ``compare.json`` and ``compare.png``.

    Every arm has the same budget, rows and seeds. With several learning rates, each arm is trained with each, and gets
    the one with which its own loss on the tuning sets is lowest. What has finished is not trained again.
    """
    arms = arms_of(settings)
    if not settings.eval.rows and not settings.eval.data:
        raise UsageError(
            "nothing is held out, so there is nothing to compare by", remedy="give --eval.rows or --eval.data"
        )
    if settings.jobs > 1 and processes.world > 1:
        raise UsageError(
            f"--jobs {settings.jobs}, and {processes.world} processes a run",
            remedy="leave out one of --jobs, --device.nproc",
        )
    if settings.tuning_seeds > settings.seeds:
        raise UsageError(
            f"--tuning-seeds {settings.tuning_seeds} of --seeds {settings.seeds}", remedy="give no more than there are"
        )
    refuse_links(settings.output)
    settings = _with_tuning(settings, processes)
    table = split(settings, 0).train
    _check_begun(settings, table)
    steps = {arm.text: _expected_steps(settings, arm, table) for arm in arms}  # refuses what does not fit, before hours
    if processes.first:
        for note in table.notes:  # a run prints them into its own log
            log.info("  %s", note)
        _say_steps(steps)
    swept = sum(len(arm.rates(settings)) for arm in arms) if _tunes(settings) else 0
    total = swept * settings.tuning_seeds + len(arms) * (settings.seeds - settings.tuning_seeds * _tunes(settings))
    # one Stop for all runs
    runner = Runner(settings.jobs, total, processes, stop or Stop(processes))
    tried = _tried(settings, arms, runner) if _tunes(settings) else {}
    rates = {arm.text: _best(arm.text, tried[arm.text]) if tried else arm.rates(settings)[0] for arm in arms}
    first = settings.tuning_seeds if tried else 0
    runner.make(
        [Trial.of(arm, rates[arm.text], seed, settings) for seed in range(first, settings.seeds) for arm in arms]
    )
    if processes.first:
        _write(settings, [_runs(settings, arm, rates[arm.text], tried, table) for arm in arms])
    return settings.output / "compare.md"


def _expected_steps(settings: CompareSettings, arm: Arm, table: Table) -> int | None:
    """The optimizer steps of an arm with a student that never learns; None where no column answers what it asks.

    UsageError where its options or columns do not fit.
    """
    header = order_of(Trial.of(arm, arm.rates(settings)[0], 0, settings).settings, table)
    batches = cut(table, header, Rehearsal(course_of(table, header), table).stages())
    try:
        return sum(1 for _ in batches)
    except UsageError:  # of the rehearsal; what else does not fit was refused before
        return None


def _say_steps(steps: Mapping[str, int | None]) -> None:
    shown = (f"{arm} {'not known' if count is None else f'{count:,}'}" for arm, count in steps.items())
    log.info("optimizer steps of a run, as expected: %s", ", ".join(shown))
    base = steps[BASELINE]
    for arm, count in steps.items():
        if base and count and (words := incomparable(count, base)):
            log.warning("%s: %s", arm, words)


def _check_begun(settings: CompareSettings, table: Table) -> None:
    """UsageError if runs there go on with rows that they are judged by, as earlier versions began them: what is begun
    now leaves these rows out, and the two are not to be compared.
    """
    for run in [] if settings.subset else sorted(settings.output.glob("*/lr-*/seed-*")):  # they had no subsets
        begun = rows_digest_of(run)
        if begun not in (None, table.digest) and split(settings, 0, begun).train.digest == begun:
            raise UsageError(
                "was begun by an earlier version, which trained on rows of --eval.data; they are left out now",
                where=str(run),
                remedy="choose another --output, so that all runs train on the same rows",
            )


def _tunes(settings: CompareSettings) -> bool:
    return len(set(settings.learning_rates)) > 1


def _with_tuning(settings: CompareSettings, processes: Processes) -> CompareSettings:
    """The same with rows to tune by, other than those to judge by, where rates are tried and no set is given."""
    how = settings.eval
    if not _tunes(settings) or how.tuning or how.tuning_rows:
        return settings
    rows = max(1, min(MOST_TUNING, len(split(replace(settings, subset=0), 0).train) // 10))
    if processes.first:
        log.info("tuning: the learning rates are judged on %d rows that are held out of those to train on", rows)
    return replace(settings, eval=replace(how, tuning_rows=rows))


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
    write_whole(output / "compare.md", "\n".join(markdown(rows, arms, settings)) + "\n")
    image = io.BytesIO()
    picture(arms, rows).savefig(image, dpi=150)
    write_whole(output / "compare.png", image.getvalue())
