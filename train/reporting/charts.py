"""The pictures of the trainer's pages, each drawn for a narrow and for a broad screen."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curricle.schemas.pages.svg import colour, picture
from curricle.schemas.pages.text import one_line
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Points = Sequence[tuple[float, float]]

_NAMES = ("muted", "ink", "hue1", "hue2", "hue3", "hue4", "hue5", "hue6")
_MUTED, _INK, *_HUES = map(colour, range(len(_NAMES)))
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
"""Of the first six names, of the next six, and of all others."""
_BORDERS = ("solid", "dashed", "dotted")
MOST_LETTERS = 20
"""Of a name beside a lane: a longer one would leave no room for the lane."""

_NARROW, _BROAD = 4.75, 10.0
"""Widths in inches. At 72 units an inch the first is a phone's width in pixels, so that a size of text is one there."""

_STYLE = {
    "font.size": 11,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "axes.titlecolor": _MUTED,
    "axes.titlesize": 11,
    "axes.spines.left": False,
    "axes.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.size": 0,
    "text.color": _INK,
    "grid.color": _MUTED,
    "grid.alpha": 0.2,
}


@dataclass(frozen=True)
class Line:
    """Points to be joined. ``dots``: each with a mark. ``faint``: one of several that a stronger line is the mean of.

    ``low`` and ``high``: the band around it, a value for each point.
    """

    points: Points
    dots: bool = False
    faint: bool = False
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    @property
    def finite(self) -> Points:
        return [(x, y) for x, y in self.points if math.isfinite(y)]


def lines(
    series: Mapping[str, Line | Sequence[Line]],
    x: str,
    y: str,
    words: str,
    log: bool = False,
    zero: bool = False,
    top: float | None = None,
    until: float = 0.0,
) -> Markup:
    """Named lines over a common axis, with a legend that is text of the page.

    ``words`` say what is to be seen to those who do not see it, and are of this picture alone on a page. ``zero``: the
    axis begins at 0; ``top``: it ends there. ``log``: it is logarithmic, where that spreads the values. ``until``: the
    other axis goes as far.
    """
    groups = {name: [each] if isinstance(each, Line) else list(each) for name, each in series.items()}
    every = [line for group in groups.values() for line in group]
    values = [value for line in every for value in (*(value for _, value in line.finite), *line.low, *line.high)]
    if not values:
        return Markup('<p class="empty">There is no finite value to draw.</p>')
    log = log and min(values) > 0 and max(values) > 5 * min(values)

    def draw(axes: "Axes") -> None:
        for index, group in enumerate(groups.values()):
            look = {"color": _HUES[index % len(_HUES)], "linestyle": _DASHES[min(index // len(_HUES), 2)]}
            for line in group:
                _draw_line(axes, line, look)
        axes.set_xlim(*span([until, *(at for line in every for at, _ in line.points)], zero=True, margin=0.01))
        _ticks(axes.xaxis, 5)
        if log:
            axes.set_yscale("log")
        else:
            low, high = span(values, zero)
            axes.set_ylim(low, high if top is None else top)
        _ticks(axes.yaxis, 4, log=log)
        _label(axes, x, y)

    return _legend(groups) + _both(draw, 2.5, 3.2, words)


def _draw_line(axes: "Axes", line: Line, look: Mapping[str, object]) -> None:
    if not line.finite:
        return
    xs, ys = zip(*line.finite, strict=True)
    if line.low:
        axes.fill_between(xs, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)
    width, opacity = (0.8, 0.35) if line.faint else (1.6, 1.0)
    marker = "o" if line.dots or len(xs) == 1 else None  # a line of one point is not to be seen
    axes.plot(xs, ys, linewidth=width, alpha=opacity, marker=marker, markersize=3.5, clip_on=False, **look)  # type: ignore[arg-type]


def lanes(stretches: Sequence[tuple[str, float, float]], x: str, words: str) -> Markup:
    """Which of several names held from where to where: a lane for each name."""
    names = list(dict.fromkeys(name for name, _, _ in stretches))

    def draw(axes: "Axes") -> None:
        for name, start, end in stretches:
            lane = names.index(name)
            axes.barh(lane, end - start, left=start, height=0.8, color=_HUES[lane % len(_HUES)], linewidth=0)
        axes.set_yticks(range(len(names)), [_cut(name) for name in names])
        axes.set_xlim(0, max(end for _, _, end in stretches))
        axes.set_ylim(len(names) - 0.5, -0.5)
        _ticks(axes.xaxis, 5)
        _label(axes, x, "", grid=False)

    height = 0.65 + 0.3 * len(names)
    return _both(draw, height, height, words)


def bars(heights: Mapping[int, int], x: str, y: str, words: str) -> Markup:
    """How many there are of each whole number."""

    def draw(axes: "Axes") -> None:
        axes.bar(list(heights), list(heights.values()), color=_HUES[0], width=0.8, linewidth=0)
        axes.set_xlim(-0.6, max(heights) + 0.6)
        axes.set_ylim(*span([*heights.values()], zero=True))
        _ticks(axes.xaxis, 8, whole=True)
        _ticks(axes.yaxis, 4, whole=True)
        _label(axes, x, y)

    return _both(draw, 1.9, 1.9, words)


@dataclass(frozen=True)
class MeanInterval:
    """What each of several had, their ``mean``, and half the width of its interval, if it has one.

    ``hue``: the number of the line that has the same colour.
    """

    name: str
    hue: int
    values: Sequence[float]
    mean: float
    half: float | None

    @property
    def ends(self) -> tuple[float, ...]:
        return (*self.values, self.mean - (self.half or 0), self.mean + (self.half or 0))


def intervals(rows: Sequence[MeanInterval], x: str, words: str) -> Markup:
    """A lane for each, around 0."""

    def draw(axes: "Axes") -> None:
        for lane, row in enumerate(rows):
            hue = _HUES[row.hue % len(_HUES)]
            axes.plot(row.values, [lane] * len(row.values), "o", color=hue, alpha=0.45, markersize=4)
            axes.errorbar(row.mean, lane, xerr=row.half, fmt="D", color=hue, capsize=4, markersize=6)
        axes.axvline(0, color=_MUTED, linewidth=0.8)
        axes.set_xlim(*span([0.0, *(end for row in rows for end in row.ends)]))
        _ticks(axes.xaxis, 5)
        axes.set_yticks(range(len(rows)), [_cut(row.name) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x")
        _label(axes, x, "", grid=False)

    height = 0.7 + 0.32 * len(rows)
    return _both(draw, height, height, words)


def span(values: Sequence[float], zero: bool = False, margin: float = 0.06) -> tuple[float, float]:
    """The ends of an axis that shows these finite values: never so narrow, nor so far from them, that it says nothing.

    ``zero``: what is drawn is an amount, and the axis begins there.
    """
    low, high = min(values), max(values)
    if zero:
        low = min(low, 0.0)
    if low == high:
        around = max(abs(low) / 10, 1e-6) if low else 1.0
        return (low, high + around) if zero and not low else (low - around, high + around)
    around = margin * (high - low)
    return (low if zero and not low else low - around), high + around


def perplexity(log_perplexity: float | None) -> float:
    """exp, or infinity where a float does not reach that far, or where nothing could be scored."""
    return math.exp(log_perplexity) if log_perplexity is not None and log_perplexity < 700 else math.inf


def _cut(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"


def _label(axes: "Axes", x: str, y: str, grid: bool = True) -> None:
    """Labels at the ends of the axes, where they take no width from the picture."""
    axes.set_xlabel(x, loc="right")
    axes.set_title(y, loc="left", fontsize=11)
    if grid:
        axes.grid(axis="y")
    axes.set_axisbelow(True)


def _ticks(axis: "Axis", most: int, whole: bool = False, log: bool = False) -> None:
    """About so many ticks with short labels."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if log:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(most, steps=(1, 2, 2.5, 5, 10), integer=whole, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(_short))


def _short(value: float, _: object = None) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def _legend(names: Iterable[str]) -> Markup:
    named = [*names]
    if len(named) < 2:
        return Markup("")
    entries = (
        f'<span><b style="--hue:var(--hue{index % len(_HUES) + 1});'
        f'border-top-style:{_BORDERS[min(index // len(_HUES), 2)]}"></b>{escape(one_line(name))}</span>'
        for index, name in enumerate(named)
    )
    return Markup(f'<p class="legend">{"".join(entries)}</p>')


def _both(draw: Callable[["Axes"], None], narrow: float, broad: float, words: str) -> Markup:
    """Heights in inches. Only one of the two is displayed, and read out, at a time."""
    key = re.sub(r"\W+", "-", words.lower())
    return Markup(
        f'<div class="narrow">{picture(draw, _NAMES, _STYLE, (_NARROW, narrow), words, f"{key}-n")}</div>'
        f'<div class="broad">{picture(draw, _NAMES, _STYLE, (_BROAD, broad), words, f"{key}-b")}</div>'
    )
