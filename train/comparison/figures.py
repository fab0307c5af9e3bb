"""What a comparison of orders comes down to: curves of held-out loss, and a row of figures for each arm."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from curricle.schemas.common.errors import UserError
from curricle.train.comparison.statistics import LEVEL, Mean, holm
from curricle.train.model.evaluate import macro_mean
from curricle.train.records.evaluations import final_figures
from curricle.train.records.metrics import read_metrics
from curricle.train.settings import HELD_OUT

Average = Literal["token", "row"]
IMBALANCE = 0.1
"""Share by which an arm may have more or fewer steps than the baseline, or the difference rests on them."""


@dataclass(frozen=True)
class Spending:
    """What something took: tokens that went through a model, and FLOPs; means where it is of several runs."""

    tokens: float = 0.0
    flops: float = 0.0

    def __add__(self, other: "Spending") -> "Spending":
        return Spending(self.tokens + other.tokens, self.flops + other.flops)


@dataclass(frozen=True)
class Curve:
    """Held-out loss of one run. ``tokens`` trained on and ``flops``, probes included, until each evaluation.

    ``loss``: what is judged by, the mean over the sets. ``sets``: for each set its ``loss`` a token and ``row_loss`` at
    the end; ``means``: of both, over the sets. ``tuning``: the same as ``loss``, at the end, on the tuning sets.
    ``training`` and ``probes``: what each took in all. ``seconds``: of both. ``benchmarks``: the figures of
    `curricle-train evaluate` of the last checkpoint, by name.
    """

    steps: list[int]
    samples: list[int]
    tokens: list[int]
    flops: list[float]
    loss: list[float]
    sets: dict[str, dict[str, float]]
    means: dict[str, float]
    tuning: float | None
    training: Spending
    probes: Spending
    seconds: float
    benchmarks: dict[str, float] = field(default_factory=dict)


def read_curve(run: Path, average: Average) -> Curve:
    """The curve of a finished run. UserError where it has no held-out loss of this kind."""
    lines = [line for line in read_metrics(run) if line["kind"] == "eval"]
    key = "loss" if average == "token" else "row_loss"
    if not lines or any(line.get(key) is None for line in lines):
        raise UserError(
            "the run has no held-out loss" + (" by row" if average == "row" else ""),
            where=str(run),
            remedy="hold out rows that have responses; a run of an earlier version has no loss by row",
        )
    last = lines[-1]
    sets = last.get("sets") or {HELD_OUT: {"loss": last["loss"]}}
    return Curve(
        [line["step"] for line in lines],
        [line["total"]["samples"] for line in lines],
        [line["total"]["tokens"] + line["probes"]["tokens"] for line in lines],
        [line["total"]["flops"] + line["probes"]["flops"] for line in lines],
        [line[key] for line in lines],
        {
            name: {kind: values[kind] for kind in ("loss", "row_loss") if kind in values}
            for name, values in sets.items()
        },
        {kind: last[kind] for kind in ("loss", "row_loss") if last.get(kind) is not None},
        macro_mean(values[key] for values in last.get("tuning", {}).values()),
        Spending(last["total"]["tokens"], last["total"]["flops"]),
        Spending(last["probes"]["tokens"], last["probes"]["flops"]),
        last["total"]["seconds"] + last["probes"]["seconds"],
        {name: figure.value for name, figure in final_figures(run).items()},
    )


def read_spending(run: Path) -> Spending:
    """What a run took that may have ended early."""
    lines = read_metrics(run)
    trained = [Spending(line["total"]["tokens"], line["total"]["flops"]) for line in lines if line["kind"] == "train"]
    probes = (Spending(line["tokens"], line["flops"]) for line in lines if line["kind"] == "probe")
    return sum(probes, trained[-1] if trained else Spending())


@dataclass(frozen=True)
class Runs:
    """The runs of an arm with the learning rate that it has, one for each seed.

    ``tried``: the loss on the tuning sets with each rate, infinite where it diverged; none where nothing was tried.
    ``tuning``: what the runs with the other rates took. ``scoring``: what making the columns took that the arm reads;
    None where that is not known.
    """

    arm: str
    rate: float
    curves: Sequence[Curve]
    tried: Mapping[float, float] = field(default_factory=dict)
    tuning: Spending = field(default_factory=Spending)
    scoring: Spending | None = field(default_factory=Spending)

    @property
    def edge(self) -> str | None:
        """Which end of the rates that were tried is the best one, if it is an end."""
        rates = sorted(self.tried)
        ends = {rates[0]: "lowest", rates[-1]: "highest"} if len(rates) > 1 else {}
        return ends.get(self.rate)

    @property
    def final(self) -> list[float]:
        return [curve.loss[-1] for curve in self.curves]

    @property
    def steps(self) -> float:
        return float(np.mean([curve.steps[-1] for curve in self.curves]))


@dataclass(frozen=True)
class Figure:
    """A loss over the seeds of an arm, and its differences from the baseline by seed; None for the baseline itself."""

    value: Mean
    difference: Mean | None


@dataclass(frozen=True)
class Row:
    """One arm, over its seeds.

    ``loss``: the primary figure, the mean over the held-out sets. ``adjusted``: the p value of its difference from the
    baseline after Holm's correction for all arms that compare, and ``stands`` whether that is below 5 %.
    ``incomparable``: why the difference is none of the order, if it is not; then it is not tested. ``means``: the loss
    a token and the loss a row, as means over the sets, and ``sets`` the same of each set. ``to_baseline``: what was
    spent until the held-out loss was the baseline's final one with the same seed, probes, scoring and tuning counted
    in; None where a seed never came that far. ``spent``: what on, in all. ``steps``, ``seconds``: means.
    ``benchmarks``: those that every run of the arm and of the baseline was asked.
    """

    arm: str
    learning_rate: float
    edge: str | None
    tried: dict[str, float | None]
    seeds: int
    steps: float
    loss: Figure
    adjusted: float | None
    stands: bool
    incomparable: str | None
    means: dict[str, Figure]
    sets: dict[str, dict[str, Figure]]
    to_baseline: Spending | None
    spent: dict[str, Spending | None]
    seconds: float
    benchmarks: dict[str, Figure] = field(default_factory=dict)

    @property
    def total(self) -> Spending:
        return sum((each for each in self.spent.values() if each), Spending())


def rows_of(arms: Sequence[Runs], baseline: str) -> list[Row]:
    """A row of each arm, in their order, with the p values corrected for all that compare."""
    base = next(runs for runs in arms if runs.arm == baseline)
    rows = [_row(runs, base) for runs in arms]
    p = {index: row.loss.difference.p for index, row in enumerate(rows) if row.loss.difference and not row.incomparable}
    tested = {index: value for index, value in p.items() if value is not None}
    for index, value in zip(tested, holm(np.array([*tested.values()])).tolist(), strict=True):
        rows[index] = replace(rows[index], adjusted=value, stands=value < 1 - LEVEL)
    return rows


def _row(runs: Runs, base: Runs) -> Row:
    reached = [_reached(curve, other.loss[-1]) for curve, other in zip(runs.curves, base.curves, strict=True)]
    there = [each for each in reached if each]
    return Row(
        runs.arm,
        runs.rate,
        runs.edge,
        {f"{rate:g}": loss if math.isfinite(loss) else None for rate, loss in runs.tried.items()},
        len(runs.curves),
        runs.steps,
        _figures(runs, base, lambda curve: {"loss": curve.loss[-1]})["loss"],
        None,
        False,
        incomparable(runs.steps, base.steps),
        _figures(runs, base, lambda curve: curve.means),
        {name: _figures(runs, base, partial(_of_set, name=name)) for name in runs.curves[0].sets},
        _mean(there) + (runs.scoring or Spending()) + runs.tuning if len(there) == len(reached) else None,
        {
            "training": _mean([curve.training for curve in runs.curves]),
            "probes": _mean([curve.probes for curve in runs.curves]),
            "scoring": runs.scoring,
            "tuning": runs.tuning,
        },
        float(np.mean([curve.seconds for curve in runs.curves])),
        _figures(runs, base, lambda curve: curve.benchmarks),
    )


def _of_set(curve: Curve, name: str) -> Mapping[str, float]:
    return curve.sets[name]


def _figures(runs: Runs, base: Runs, of: Callable[[Curve], Mapping[str, float]]) -> dict[str, Figure]:
    """The losses that every run has, over the seeds."""
    ours, theirs = [of(curve) for curve in runs.curves], [of(curve) for curve in base.curves]
    return {
        kind: Figure(
            Mean.of([values[kind] for values in ours]),
            None if runs is base else Mean.of([one[kind] - two[kind] for one, two in zip(ours, theirs, strict=True)]),
        )
        for kind in ours[0]
        if all(kind in values for values in (*ours, *theirs))
    }


def incomparable(steps: float, base: float) -> str | None:
    """Why so many optimizer steps do not compare with those of the baseline; None where they do."""
    if abs(steps - base) <= IMBALANCE * base:
        return None
    return f"{steps:,.0f} steps against {base:,.0f}: not comparable"


def _mean(spent: Sequence[Spending]) -> Spending:
    return Spending(float(np.mean([each.tokens for each in spent])), float(np.mean([each.flops for each in spent])))


def _reached(curve: Curve, wanted: float) -> Spending | None:
    tokens = _until(curve.tokens, curve.loss, wanted)
    flops = _until(curve.flops, curve.loss, wanted)
    return None if tokens is None or flops is None else Spending(tokens, flops)


def _until(spent: Sequence[float], loss: Sequence[float], wanted: float) -> float | None:
    """What was spent when the loss first was as wanted, on straight lines between evaluations."""
    for index, value in enumerate(loss):
        if value <= wanted:
            if index == 0:
                return float(spent[0])
            share = (loss[index - 1] - wanted) / (loss[index - 1] - value)
            return float(spent[index - 1] + share * (spent[index] - spent[index - 1]))
    return None
