"""A comparison as a table in Markdown and as a picture."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from curricle.train.comparison.figures import Curve, Row
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray


def markdown(
    rows: Sequence[Row], rate: float, tried: Mapping[float, float], scoring: Mapping[str, Any] | None
) -> Iterator[str]:
    yield (
        "| order | held-out loss (nats/token) | difference from random | tokens to random's final loss | FLOPs to it | "
        "all FLOPs | of them probes | steps | seconds |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in sorted(rows, key=lambda row: row.loss):
        yield (
            f"| {row.arm} | {row.loss:.4f}{_plus_minus(row.interval)} | "
            + (f"{row.difference:+.4f}{_plus_minus(row.difference_interval)}" if row.difference is not None else "–")
            + f" | {_count(row.tokens_to_baseline)} | {_count(row.flops_to_baseline)} | {row.flops:.3g} | "
            f"{row.probe_share:.1%} | {row.steps:,.0f} | {row.seconds:,.0f} |"
        )
    yield ""
    yield (
        f"Means over seeds ({rows[0].seeds} each), ± 95 % intervals of Student's t; differences are paired by seed. "
        f"Every order has the same budget and learning rate ({rate:g}). Tokens, FLOPs and seconds include the probes; "
        "a batch never spans two stages, hence the steps. “–”: not every seed came that far."
    )
    if tried:
        shown = ", ".join(f"{key:g}: {value:.4f}" for key, value in tried.items())
        yield f"The learning rate was chosen for the random order (held-out loss {shown})."
    if scoring:
        yield (
            f"Scoring the table, which random does not need, took {scoring['tokens']:,} tokens of the proxy and "
            f"{scoring['seconds']:,.0f} s."
        )


def _plus_minus(interval: float | None) -> str:
    return "" if interval is None else f" ± {interval:.4f}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value < 1e9 else f"{value:.3g}"


def picture(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """Held-out loss over tokens, probes included: the mean over seeds, and each seed faintly. Best order first."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    colours = {arm: f"C{index % 10}" for index, arm in enumerate(curves)}
    for arm in sorted(curves, key=lambda arm: float(np.mean([curve.loss[-1] for curve in curves[arm]]))):
        of, colour = curves[arm], colours[arm]
        for curve in of:
            axes.plot(curve.tokens, curve.loss, color=colour, alpha=0.2, linewidth=0.8)
        tokens, loss = _mean_curve(of)
        axes.plot(tokens, loss, color=colour, linewidth=1.8, label=f"{arm}  {loss[-1]:.3f}")
        axes.plot(tokens[-1], loss[-1], "o", color=colour, markersize=5)
    axes.set(xlabel="tokens, probes included", ylabel="held-out loss, nats per response token")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(alpha=0.2)
    axes.legend(frameon=False, title="order, and its mean loss at the end")
    return figure


def _mean_curve(curves: Sequence[Curve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean tokens and mean loss at like shares of the evaluations, whose number may differ from seed to seed."""
    shares = np.linspace(0, 1, max(len(curve.loss) for curve in curves))

    def mean(values: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        return np.mean([np.interp(shares, np.linspace(0, 1, len(each)), each) for each in values], axis=0)

    return mean([curve.tokens for curve in curves]), mean([curve.loss for curve in curves])
