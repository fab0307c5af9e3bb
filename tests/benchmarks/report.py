"""The comparisons as a table for people and as a picture."""

from collections.abc import Sequence
from pathlib import Path

from harness import Comparison
from matplotlib.figure import Figure


def table(comparisons: Sequence[Comparison]) -> str:
    """Markdown, a line for each comparison; ratios are medians, with the least and the greatest of the rounds."""
    lines = [
        "| | work | against | ratio | rounds | goal | | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in comparisons:
        sign, verdict = "≤" if each.at_most else "≥", "met" if each.met else "**missed**"
        spread = f"{min(each.ratios):.3g} – {max(each.ratios):.3g}"
        cells = [each.row, each.work, each.against, f"{each.ratio:.3g}×", spread, f"{sign} {each.goal:g}×", verdict]
        lines.append("| " + " | ".join([*cells, each.note]) + " |")
    return "\n".join(lines)


def draw(comparisons: Sequence[Comparison], title: str, path: Path) -> None:
    """How far each median is beyond its goal, on a logarithmic axis, and the spread of its rounds."""
    figure = Figure(figsize=(9, 0.9 + 0.36 * len(comparisons)), layout="constrained")
    axes = figure.subplots()
    for index, each in enumerate(comparisons):
        beyond = [(each.goal / ratio if each.at_most else ratio / each.goal) for ratio in (each.ratio, *each.ratios)]
        colour = "tab:green" if each.met else "tab:red"
        axes.plot([min(beyond[1:]), max(beyond[1:])], [index, index], color=colour, linewidth=2, alpha=0.4)
        axes.plot(beyond[0], index, "o", color=colour)
    axes.axvline(1, color="0.3", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(comparisons)), [f"{each.row}  {each.work}\nvs. {each.against}" for each in comparisons])
    axes.tick_params(axis="y", labelsize=6.5)
    axes.invert_yaxis()
    axes.set_xlabel("times the goal (right of the line: met)")
    axes.set_title(title, loc="left", fontsize=9)
    axes.grid(axis="x", alpha=0.3, which="both")
    figure.savefig(path, dpi=130)
