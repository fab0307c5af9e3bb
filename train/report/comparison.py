"""A comparison as a table in Markdown and as a picture."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from train.comparison import Curve, Row


def markdown(
    rows: Sequence[Row], rate: float, tried: Mapping[float, float], scoring: Mapping[str, Any] | None
) -> Iterator[str]:
    yield (
        "| order | held-out loss (nats/token) | difference from random | tokens to random's final loss | FLOPs to it | "
        "all FLOPs | of them probes | seconds |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for row in sorted(rows, key=lambda row: row.loss):
        yield (
            f"| {row.arm} | {row.loss:.4f}{_plus_minus(row.interval)} | "
            + (f"{row.difference:+.4f}{_plus_minus(row.difference_interval)}" if row.difference is not None else "–")
            + f" | {_count(row.tokens_to_baseline)} | {_count(row.flops_to_baseline)} | {row.flops:.3g} | "
            f"{row.probe_share:.1%} | {row.seconds:,.0f} |"
        )
    yield ""
    yield (
        f"Means over {rows[0].seeds} seeds with 95 % intervals of Student's t; differences are paired by seed. Every "
        f"order has the same budget and learning rate ({rate:g}). Tokens and FLOPs include the probes; “–”: not every "
        "seed came that far."
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
    """Held-out loss over tokens, probes included: the mean over seeds, and each seed faintly."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, (arm, of) in enumerate(curves.items()):
        colour = f"C{index % 10}"
        for curve in of:
            axes.plot(curve.tokens, curve.loss, color=colour, alpha=0.25, linewidth=0.8)
        if len({len(curve.loss) for curve in of}) == 1:
            mean = np.mean([curve.loss for curve in of], axis=0)
            axes.plot(np.mean([curve.tokens for curve in of], axis=0), mean, color=colour, linewidth=1.8, label=arm)
        else:
            axes.plot([], [], color=colour, linewidth=1.8, label=arm)
    axes.set(xlabel="tokens, probes included", ylabel="held-out loss, nats per response token")
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)
    return figure
