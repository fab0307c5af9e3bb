"""What a comparison of orders comes down to: curves of held-out loss, and a row of figures for each order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from curricle.schemas.common.errors import UserError
from curricle.train.records.metrics import read_metrics

# Two-sided 95 % points of Student's t for 1, 2, … degrees of freedom; beyond, the normal distribution's is close.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Curve:
    """Held-out loss of one run. ``tokens`` trained on and ``flops``, probes included, until each evaluation."""

    steps: list[int]
    samples: list[int]
    tokens: list[int]
    flops: list[float]
    loss: list[float]
    probe_flops: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """One arm, over its seeds. ``steps``, ``flops`` and ``seconds``: means, probes counted in where there is a cost.

    Intervals are of Student's t; ``difference`` is paired by seed with the baseline.
    ``tokens_to_baseline`` and ``flops_to_baseline``: means of what was spent until the held-out loss was the
    baseline's final one with the same seed, probes counted in; None where a seed never came that far.
    """

    arm: str
    seeds: int
    steps: float
    loss: float
    interval: float | None
    difference: float | None
    difference_interval: float | None
    tokens_to_baseline: float | None
    flops_to_baseline: float | None
    flops: float
    probe_share: float
    seconds: float


def read_curve(run: Path) -> Curve:
    lines = [line for line in read_metrics(run) if line["kind"] == "eval"]
    if not lines or any(line["loss"] is None for line in lines):
        raise UserError("the run has no held-out loss", where=str(run), remedy="hold out rows that have responses")
    last = lines[-1]
    return Curve(
        [line["step"] for line in lines],
        [line["total"]["samples"] for line in lines],
        [line["total"]["tokens"] + line["probes"]["tokens"] for line in lines],
        [line["total"]["flops"] + line["probes"]["flops"] for line in lines],
        [line["loss"] for line in lines],
        last["probes"]["flops"],
        last["total"]["seconds"] + last["probes"]["seconds"],
    )


def row_of(arm: str, curves: Sequence[Curve], baseline: Sequence[Curve]) -> Row:
    final = [curve.loss[-1] for curve in curves]
    differences = [loss - other.loss[-1] for loss, other in zip(final, baseline, strict=True)]
    pairs = list(zip(curves, baseline, strict=True))
    return Row(
        arm,
        len(curves),
        float(np.mean([curve.steps[-1] for curve in curves])),
        float(np.mean(final)),
        _interval(final),
        None if curves is baseline else float(np.mean(differences)),
        None if curves is baseline else _interval(differences),
        _mean([_until(curve.tokens, curve.loss, other.loss[-1]) for curve, other in pairs]),
        _mean([_until(curve.flops, curve.loss, other.loss[-1]) for curve, other in pairs]),
        float(np.mean([curve.flops[-1] for curve in curves])),
        float(np.mean([curve.probe_flops / curve.flops[-1] for curve in curves])),
        float(np.mean([curve.seconds for curve in curves])),
    )


def _interval(values: Sequence[float]) -> float | None:
    """Half the width of the 95 % interval of the mean; None for one value."""
    if len(values) < 2:
        return None
    t = _T95[len(values) - 2] if len(values) - 2 < len(_T95) else 1.96
    return float(t * np.std(values, ddof=1) / math.sqrt(len(values)))


def _until(spent: Sequence[float], loss: Sequence[float], wanted: float) -> float | None:
    """What was spent when the loss first was as wanted, on straight lines between evaluations."""
    for index, value in enumerate(loss):
        if value <= wanted:
            if index == 0:
                return float(spent[0])
            share = (loss[index - 1] - wanted) / (loss[index - 1] - value)
            return float(spent[index - 1] + share * (spent[index] - spent[index - 1]))
    return None


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if len(present) == len(values) else None
