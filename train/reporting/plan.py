"""``plan.html``: what an order visits when, and what it never visits."""

from collections.abc import Iterator
from pathlib import Path

from curricle.schemas.common.disk import write_whole
from curricle.schemas.pages.page import rendered
from curricle.train.ordering.plan import DifficultyCurve, Plan, plan_of
from curricle.train.reporting.charts import Line, lanes, lines
from curricle.train.reporting.page import Chart, exposure, exposure_by_difficulty, exposure_of_domains
from curricle.train.settings import PlanSettings

PAGE = "plan.html"


def write_plan(settings: PlanSettings) -> tuple[Plan, Path]:
    """Write a plan, and describe it on one self-contained page beside it, whose path is returned too.

    UsageError as ``plan_of``.
    """
    plan = plan_of(settings)
    path = plan.parquet.with_name(PAGE)
    shown = {
        "title": plan.title,
        "plan": plan,
        "facts": [
            ("samples", f"{plan.samples:,}"),
            ("steps", f"{plan.steps:,}"),
            ("stages", f"{plan.stages:,}"),
            *((words.partition(": ")[0], words.partition(": ")[2]) for words in plan.summary.short()),
        ],
        "notes": [*plan.summary.warnings(), *plan.notes],
        "charts": [*_charts(plan)],
    }
    write_whole(path, rendered("curricle.train.reporting", "plan.html.j2", shown))
    return plan, path


def _charts(plan: Plan) -> Iterator[Chart]:
    if plan.curves:
        yield Chart(
            "Difficulty along the order",
            "The mean percentile of the rows, from the easiest at 0 to the hardest at 100, and the middle 80 per cent.",
            lines(
                {name: _line(curve) for name, curve in plan.curves.items()},
                "samples",
                "percentile",
                "Difficulty percentile over samples",
                zero=True,
                top=100,
                until=plan.samples,
            ),
        )
    if plan.choices:
        yield Chart(
            "What is chosen when",
            "The perspective whose next slice is trained on, or the stage.",
            lanes(plan.choices, "samples", "Chosen perspectives"),
        )
    if plan.summary.domains:
        yield exposure_of_domains(plan.summary.domains)
    if plan.summary.tenths:
        yield exposure_by_difficulty(plan.summary.tenths)
    yield exposure(plan.exposure.times)


def _line(curve: DifficultyCurve) -> Line:
    """Without points at which no row has a score."""
    there = curve.mean == curve.mean
    points = [*zip(curve.at[there].tolist(), curve.mean[there].tolist(), strict=True)]
    return Line(points, low=curve.low[there].tolist(), high=curve.high[there].tolist())
