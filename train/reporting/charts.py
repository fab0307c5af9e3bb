"""The pictures of a run's report."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from curricle.schemas.common.svg import colour, picture
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[tuple[float, float]]

_NAMES = ("muted", "ink", "hue1", "hue2", "hue3", "hue4", "hue5", "hue6")
_MUTED, _INK, *_HUES = map(colour, range(len(_NAMES)))

_STYLE = {
    "font.size": 9,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "text.color": _INK,
    "grid.color": _MUTED,
    "grid.alpha": 0.2,
    "legend.frameon": False,
}


def lines(
    series: Mapping[str, Points], x: str, y: str, words: str, dots: Sequence[str] = (), log: bool = False
) -> Markup:
    """Named lines over a common axis; those named in ``dots`` with a mark at each point."""

    def draw(axes: "Axes") -> None:
        for (name, points), hue in zip(series.items(), cycle(_HUES)):
            if points:
                xs, ys = zip(*points, strict=True)
                axes.plot(
                    xs, ys, color=hue, linewidth=1.4, label=name, marker="o" if name in dots else None, markersize=3
                )
        if log:
            axes.set_yscale("log")
        if len(series) > 1:
            axes.legend(loc="best", fontsize=8)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(axis="y")

    return _svg(draw, 2.6, words)


def lanes(stretches: Sequence[tuple[str, float, float]], x: str, words: str) -> Markup:
    """Which of several names held from where to where: a lane for each name."""
    names = list(dict.fromkeys(name for name, _, _ in stretches))

    def draw(axes: "Axes") -> None:
        for name, start, end in stretches:
            lane = names.index(name)
            axes.barh(lane, end - start, left=start, height=0.8, color=_HUES[lane % len(_HUES)], linewidth=0)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlim(0, max(end for _, _, end in stretches))
        axes.invert_yaxis()
        axes.set_xlabel(x)

    return _svg(draw, 0.7 + 0.32 * len(names), words)


def bars(heights: Mapping[int, int], x: str, y: str, words: str) -> Markup:
    def draw(axes: "Axes") -> None:
        axes.bar(list(heights), list(heights.values()), color=_HUES[0], width=0.8, linewidth=0)
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=x, ylabel=y)
        axes.grid(axis="y")
        axes.set_axisbelow(True)

    return _svg(draw, 2.2, words)


def perplexity(log_perplexity: float | None) -> float:
    """exp, or infinity where a float does not reach that far, or where nothing could be scored."""
    return math.exp(log_perplexity) if log_perplexity is not None and log_perplexity < 700 else math.inf


def _svg(draw: "Callable[[Axes], None]", height: float, words: str) -> Markup:
    return picture(draw, _NAMES, _STYLE, (9, height), words, key=words.lower().replace(" ", "-"))
