"""The pictures of a table's report."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from curricle.curate.report.agreement import Agreement
from curricle.curate.report.distributions import Distribution
from curricle.schemas.columns import Hard
from curricle.schemas.pages.svg import colour, picture
from curricle.schemas.pages.text import number, one_line
from markupsafe import Markup

if TYPE_CHECKING:  # matplotlib is imported when something is drawn
    from curricle.curate.report.drift import Drift  # scipy, which no other page needs
    from matplotlib.axes import Axes

_NAMES = ("muted", "accent", "ink")
_MUTED, _ACCENT, _INK = map(colour, range(len(_NAMES)))

_STYLE = {
    "font.size": 8.5,
    "axes.edgecolor": _MUTED,
    "axes.spines.left": False,
    "axes.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.size": 0,
    "grid.color": _MUTED,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.5,
}


def histogram(shape: Distribution, key: str) -> Markup:
    """The histogram of a column that has values; ``key`` keeps the ids of one picture apart from another's."""
    return _picture(lambda axes: _draw(axes, shape), key, _words(shape))


def overlaid_histograms(drift: "Drift", key: str) -> Markup:
    """The histograms of a column in two tables, as shares of the rows: the old one filled, the new one a line."""

    from matplotlib.ticker import MaxNLocator

    def draw(axes: "Axes") -> None:
        old, new = (np.asarray(counts) / max(1, sum(counts)) * 100 for counts in drift.counts)
        axes.stairs(old, drift.edges, fill=True, color=_MUTED, alpha=0.45, linewidth=0)
        axes.stairs(new, drift.edges, color=_ACCENT, linewidth=1.3)
        whole = pa.types.is_integer(drift.column.type)
        _set_axes(axes, drift.edges, max(old.max(), new.max()), drift.log, whole, drift.column.hard)
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=(1, 2, 5, 10)))

    medians = [side.quantiles[50] for side in (drift.old, drift.new) if side.quantiles]
    words = f"Two histograms of {one_line(drift.column.name)}, medians {' and '.join(map(number, medians))}"
    return _picture(draw, key, words)


def overlap_curve(agreement: Agreement, key: str) -> Markup:
    """The overlap of the hard ends against the share of the rows that is taken, beside that of two random choices."""

    def draw(axes: "Axes") -> None:
        axes.plot((0, 100), (0, 100), color=_MUTED, linewidth=0.9, dashes=(3, 2))
        shares, overlaps = zip(*((100 * share, 100 * overlap) for share, overlap in agreement.curve), strict=True)
        axes.plot(shares, overlaps, color=_ACCENT, linewidth=1.4)
        axes.grid()
        axes.set(xlim=(0, 100), ylim=(0, 100), xticks=range(0, 101, 20), yticks=range(0, 101, 50))

    middle = min(agreement.curve, key=lambda point: abs(point[0] - 0.5))
    words = f"Overlap against share: {number(100 * middle[1])} % of the hardest {number(100 * middle[0])} % are common"
    return _picture(draw, key, words)


def _picture(draw: Callable[["Axes"], None], key: str, words: str) -> Markup:
    return picture(draw, _NAMES, _STYLE, (3.7, 1.75), words, key, box=(0.1, 0.16, 0.87, 0.72))


def _draw(axes: "Axes", shape: Distribution) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.stairs(shape.counts, shape.edges, fill=True, color=_ACCENT, alpha=0.75, linewidth=0)
    highest = max(shape.counts)
    if shape.whole:
        scaled = np.asarray(shape.whole.counts) * (shape.values / shape.whole.values)
        axes.stairs(scaled, shape.edges, color=_INK, linewidth=0.8)
        highest = max(highest, scaled.max())
    _set_axes(axes, shape.edges, highest, shape.log, isinstance(shape.minimum, int), shape.column.hard)
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=(1, 2, 5, 10), integer=True))
    assert shape.median is not None
    axes.axvline(shape.median, color=_INK, linewidth=0.9, dashes=(3, 2))


def _set_axes(axes: "Axes", edges: Sequence[float], highest: float, log: bool, whole: bool, hard: Hard) -> None:
    """The axes of a histogram, and where its hard end is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axes.grid(axis="y")
    axes.set_axisbelow(True)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if edges[-1] < 30 * edges[0] else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10), integer=whole))
    short = FuncFormatter(lambda value, _: _short(value))
    axes.xaxis.set_major_formatter(short)
    axes.yaxis.set_major_formatter(short)
    if edges[0] < edges[-1]:  # of one value there is no range, and matplotlib makes one around it
        axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, highest * 1.05)
    if hard == "high":
        axes.text(1, 1.06, "harder \u2192", transform=axes.transAxes, ha="right", color=_INK)
    elif hard == "low":
        axes.text(0, 1.06, "\u2190 harder", transform=axes.transAxes, ha="left", color=_INK)


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{number(value / size)}{letter}"
    return number(float(value))


def _words(shape: Distribution) -> str:
    return (
        f"Histogram of {one_line(shape.column.name)}: {number(shape.values)} values from {number(shape.minimum)} "
        f"to {number(shape.maximum)}, median {number(shape.median)}{', logarithmic axis' if shape.log else ''}"
    )
