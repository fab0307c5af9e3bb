"""Several orders at the same budget, over several seeds, in one table and one picture."""

import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from curricle.schemas.common.disk import refuse_links, write_whole
from curricle.schemas.common.errors import UsageError
from curricle.schemas.manifest import MANIFEST, read_manifest
from curricle.train.comparison.figures import Curve, Row, read_curve, row_of
from curricle.train.comparison.render import markdown, picture
from curricle.train.curricula import build
from curricle.train.curricula.base import Course
from curricle.train.data.holdout import split
from curricle.train.distributed import Processes, Stop
from curricle.train.loop import run as train
from curricle.train.settings import CompareSettings, RunSettings, TrainSettings

log = logging.getLogger("curricle")

BASELINE = "random"


def compare(settings: CompareSettings, processes: Processes, stop: Stop | None = None) -> Path:
    """Train every arm with every seed, and write ``compare.md``, ``compare.json`` and ``compare.png``.

    Every arm has the same budget, schedule and seeds. With several learning rates the baseline is trained with each
    first, and all arms get the one with which its held-out loss is lowest. What has finished is not trained again.
    """
    arms = {arm: _arm(arm) for arm in settings.arms}
    if not settings.eval.rows and not settings.eval.data:
        raise UsageError(
            "nothing is held out, so there is nothing to compare by", remedy="give --eval.rows or --eval.data"
        )
    if BASELINE not in arms:
        raise UsageError(f"the arms leave out {BASELINE!r}, the baseline", remedy=f"add {BASELINE} to --arms")
    refuse_links(settings.output)
    table = split(settings, 0).train
    for name, options in arms.values():
        Course(build(name, options), table, 0, settings.batch.size)  # refuses what does not fit, before hours of others
    stop = stop or Stop(processes)  # one for all runs
    rate, tried = _tuned_rate(settings, processes, stop)
    curves = {arm: _trained(settings, arm, rate, processes, stop) for arm in arms}
    rows = [row_of(arm, curves[arm], curves[BASELINE]) for arm in arms]
    if processes.first:
        _write(settings, rows, curves, rate, tried)
    return settings.output / "compare.md"


def _arm(text: str) -> tuple[str, dict[str, str]]:
    """``NAME`` or ``NAME?key=value&key=value``."""
    name, _, query = text.partition("?")
    try:
        return name, dict(parse_qsl(query, strict_parsing=True)) if query else {}
    except ValueError as error:
        raise UsageError(
            f"arm {text!r} is not NAME?key=value&key=value", remedy="for example sorted?by=loss"
        ) from error


def _slug(arm: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in arm)


def _tuned_rate(settings: CompareSettings, processes: Processes, stop: Stop) -> tuple[float, dict[float, float]]:
    tried = {
        rate: float(np.mean([curve.loss[-1] for curve in _trained(settings, BASELINE, rate, processes, stop)]))
        for rate in settings.learning_rates
    }
    return (min(tried, key=tried.__getitem__) if tried else settings.optimizer.lr), tried


def _trained(settings: CompareSettings, arm: str, rate: float, processes: Processes, stop: Stop) -> list[Curve]:
    """The curves of an arm, one for each seed. A run that is there already, as from tuning, is not made again."""
    name, options = _arm(arm)
    common = {item.name: getattr(settings, item.name) for item in fields(TrainSettings)}
    common["optimizer"] = replace(settings.optimizer, lr=rate)
    curves = []
    for seed in range(settings.seeds):
        common["output"] = settings.output / _slug(arm) / f"lr-{rate:g}" / f"seed-{seed}"
        if processes.first:
            log.info("%s, seed %d, learning rate %g", arm, seed, rate)
        train(RunSettings(**common, curriculum=name, curriculum_options=options, seed=seed), processes, stop)
        curves.append(read_curve(common["output"]))
    return curves


def _write(
    settings: CompareSettings,
    rows: Sequence[Row],
    curves: Mapping[str, Sequence[Curve]],
    rate: float,
    tried: Mapping[float, float],
) -> None:
    scoring = _scoring_cost(settings.data)
    output = settings.output
    record = {
        "rows": [asdict(row) for row in rows],
        "learning_rate": rate,
        "tried": {f"{key:g}": value for key, value in tried.items()},
        "scoring": scoring,
        "curves": {arm: [asdict(curve) for curve in of] for arm, of in curves.items()},
    }
    write_whole(output / "compare.json", json.dumps(record, indent=1))
    write_whole(output / "compare.md", "\n".join(markdown(rows, rate, tried, scoring)) + "\n")
    image = io.BytesIO()
    picture(curves).savefig(image, dpi=150)
    write_whole(output / "compare.png", image.getvalue())


def _scoring_cost(data: Path) -> dict[str, Any] | None:
    if not (data / MANIFEST).is_file():
        return None
    cost = read_manifest(data).cost
    return {"tokens": cost.tokens, "seconds": cost.seconds}
