"""A comparison as a page: what is judged by, the curves, the differences by seed, and every table."""

from collections.abc import Iterator, Sequence

import numpy as np
from curricle.schemas.pages.page import rendered
from curricle.train.comparison.figures import Row, Runs
from curricle.train.comparison.picture import mean_curve
from curricle.train.comparison.render import Section
from curricle.train.reporting.charts import Line, MeanInterval, intervals, lines
from curricle.train.reporting.page import Chart
from curricle.train.settings import CompareSettings


def comparison_page(
    rows: Sequence[Row], arms: Sequence[Runs], tables: Sequence[Section], settings: CompareSettings
) -> str:
    """One self-contained HTML page, which fetches nothing and runs nothing; every name on it is escaped."""
    best = sorted(arms, key=lambda runs: float(np.mean(runs.final)))
    shown = {
        "name": settings.output.resolve().name,
        "about": {"model": settings.model, "data": str(settings.data)},
        "orders": len(arms),
        "seeds": len(arms[0].curves),
        "verdict": [*_verdict(rows)],
        "figures": [*_figures(best, {row.arm: row for row in rows})],
        "tables": tables,
    }
    return rendered("curricle.train.comparison", "compare.html.j2", shown)


def _verdict(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """What is to be said of each order beside the baseline, the best first."""
    for row in sorted(rows, key=lambda row: row.loss.value.mean):
        difference = row.loss.difference
        if difference is None:
            continue
        if row.incomparable:
            yield row.arm, row.incomparable
        elif row.stands:
            better = "lower" if difference.mean < 0 else "higher"
            yield row.arm, f"{abs(difference.mean):.4f} nats {better} than random, beyond chance"
        elif row.adjusted is None:
            yield (
                row.arm,
                f"{difference.mean:+.4f} nats from random; seeds that do not differ test nothing",
            )
        else:
            yield row.arm, f"{difference.mean:+.4f} nats from random, within what seeds make"


def _figures(arms: Sequence[Runs], rows: dict[str, Row]) -> Iterator[Chart]:
    curves = {
        f"{runs.arm}  {np.mean(runs.final):.3f}": [
            *(Line([*zip(curve.tokens, curve.loss, strict=True)], faint=True) for curve in runs.curves),
            Line([*zip(*(each.tolist() for each in mean_curve(runs.curves)), strict=True)], dots=True),
        ]
        for runs in arms
    }
    yield Chart(
        "Held-out loss over training",
        "Over tokens, probes included: the mean over seeds, and each seed faintly; the best order first, with its mean "
        "loss at the end.",
        lines(curves, "tokens", "nats", "Held-out loss over tokens"),
    )
    base = next(runs for runs in arms if rows[runs.arm].loss.difference is None)
    apart = [
        MeanInterval(
            runs.arm, hue, [*map(float, np.subtract(runs.final, base.final))], difference.mean, difference.interval
        )
        for hue, runs in enumerate(arms)
        if (difference := rows[runs.arm].loss.difference) and not rows[runs.arm].incomparable
    ]
    if apart:
        yield Chart(
            f"Difference from {base.arm}",
            "At the end, by seed (dots), with the mean and its 95 % interval; left of 0 is better."
            " Orders with another number of steps are not compared.",
            intervals(apart, "nats", "Difference from the baseline"),
        )
