"""A comparison as a picture: curves of held-out loss, and the difference from the baseline by seed."""

from collections.abc import Sequence

import numpy as np
from curricle.train.comparison.figures import Curve, Row, Runs
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray


def picture(arms: Sequence[Runs], rows: Sequence[Row]) -> Figure:
    """Held-out loss over tokens, probes included: the mean over seeds, and each seed faintly; best order first.

    Beside it each seed's difference from the baseline, with the mean and its 95 % interval, of the arms that compare.
    """
    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    colours = {runs.arm: f"C{index % 10}" for index, runs in enumerate(arms)}
    best = sorted(arms, key=lambda runs: float(np.mean(runs.final)))
    for runs in best:
        colour = colours[runs.arm]
        for curve in runs.curves:
            left.plot(curve.tokens, curve.loss, color=colour, alpha=0.2, linewidth=0.8)
        tokens, loss = mean_curve(runs.curves)
        left.plot(tokens, loss, color=colour, linewidth=1.8, label=f"{runs.arm}  {loss[-1]:.3f}")
        left.plot(tokens[-1], loss[-1], "o", color=colour, markersize=5)
    left.set(xlabel="tokens, probes included", ylabel="held-out loss, nats")
    left.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    left.grid(alpha=0.2)
    left.legend(frameon=False, title="order, and its mean loss at the end")
    _differences(right, best, {row.arm: row for row in rows}, colours)
    return figure


def _differences(axes: Axes, arms: Sequence[Runs], rows: dict[str, Row], colours: dict[str, str]) -> None:
    base = next(runs for runs in arms if rows[runs.arm].loss.difference is None)
    names: list[str] = []
    for runs in arms:
        row = rows[runs.arm]
        if row.loss.difference is None:
            continue
        at = -len(names)
        names.append(runs.arm)
        if row.incomparable:
            axes.text(0, at, f"  {row.incomparable}", va="center", fontsize=8)
            continue
        by_seed = np.subtract(runs.final, base.final)
        axes.plot(by_seed, np.full(len(by_seed), at), "o", color=colours[runs.arm], alpha=0.4, markersize=4)
        mean = row.loss.difference
        axes.errorbar(mean.mean, at, xerr=mean.interval, fmt="D", color=colours[runs.arm], capsize=4, markersize=6)
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set(
        yticks=[-index for index in range(len(names))],
        yticklabels=names,
        ylim=(0.5 - max(1, len(names)), 0.5),
        xlabel=f"difference from {base.arm}, nats: seeds, mean, 95 % interval",
    )
    axes.grid(axis="x", alpha=0.2)


def mean_curve(curves: Sequence[Curve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean tokens and mean loss at like shares of the evaluations, whose number may differ from seed to seed."""
    shares = np.linspace(0, 1, max(len(curve.loss) for curve in curves))

    def mean(values: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        return np.mean([np.interp(shares, np.linspace(0, 1, len(each)), each) for each in values], axis=0)

    return mean([curve.tokens for curve in curves]), mean([curve.loss for curve in curves])
