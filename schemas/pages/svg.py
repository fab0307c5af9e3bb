"""Pictures of the reports as inline SVG that takes its colours and its font from the page around it.

Both halves draw, so this stands below them; matplotlib and markupsafe are imported when something is drawn.
"""

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

_STYLE = {
    # Text stays text: it is searchable and scales with the page, and the file does not carry outlines of glyphs.
    "svg.fonttype": "none",
    "svg.hashsalt": "curricle",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.parse_math": False,  # names of columns and files are text, whatever signs are in them
}


def colour(index: int) -> str:
    """What a drawing names the colour ``names[index]`` of ``picture`` by."""
    return f"#0{index + 1}0{index + 1}0{index + 1}"


def picture(
    draw: "Callable[[Axes], None]",
    names: Sequence[str],
    style: Mapping[str, Any],
    size: tuple[float, float],
    words: str,
    key: str,
    box: tuple[float, float, float, float] | None = None,
) -> "Markup":
    """A drawing as an ``svg`` element.

    ``names`` are variables of the page's style sheet, so that one picture serves a light page, a dark page and paper;
    ``draw`` and ``style`` (of matplotlib's rcParams) use ``colour(index)`` for them. ``size``: width and height in
    inches, of which the page keeps the ratio. ``words`` say what it shows to those who do not see it. ``key`` keeps the
    ids of one picture apart from another's. ``box``: where the axes are, in shares of the size; without it, wherever
    there is room for their labels.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's fonts draw the text, not ours
        matplotlib.rcdefaults()  # a user's matplotlibrc does not reach the page
        matplotlib.rcParams.update({**_STYLE, **style})  # type: ignore[dict-item]
        figure = Figure(figsize=size, layout=None if box else "constrained")
        draw(figure.add_axes(box) if box else figure.subplots())
        svg = io.StringIO()
        unsigned = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=unsigned)
    return _inline(svg.getvalue(), {colour(index): f"var(--{name})" for index, name in enumerate(names)}, words, key)


def _inline(svg: str, variables: Mapping[str, str], words: str, key: str) -> "Markup":
    from markupsafe import Markup, escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r' ?font-family: [^;"]*;?|font: ([\d.]+px) [^;"]*',
        lambda match: f"font-size: {match[1]}" if match[1] else "",
        svg,
    )
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{key}-", svg)
    svg = re.sub("|".join(variables), lambda match: variables[match[0]], svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box, "matplotlib writes a viewBox"
    inside = re.sub(r"\s*\n\s*", "\n", svg[svg.index(">", box.end()) + 1 :])
    return Markup(f'<svg role="img" aria-label="{escape(words)}" {box[0]}>{inside}')
