"""The findings as a table for people, as a picture, and as the page of the documentation."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import Comparison, Finding, Remark, Skipped, parsed
from matplotlib.figure import Figure

BEGIN, END = "<!-- written by tests/benchmarks: begin -->", "<!-- end -->"
"""Between these lines the page is written by ``write_page``."""


def table(findings: Sequence[Finding]) -> str:
    """Markdown: a line for each comparison, then what was left out and why, and the remarks.

    Ratios are medians, with the number of rounds and the least and the greatest of them; CPU is the ratio of processor
    seconds.
    """
    lines = ["| | work | against | ratio | rounds | CPU | goal | | |", "|---|---|---|---|---|---|---|---|---|"]
    for each in findings:
        if isinstance(each, Comparison):
            lines.append("| " + " | ".join(_cells(each)) + " |")
    missing = [f"- {each.row}, {each.work}, against {each.against}: {each.why}" for each in _of(findings, Skipped)]
    if missing:
        lines += ["", "Not compared:", "", *missing]
    for each in _of(findings, Remark):
        lines += ["", f"**{each.row}.** {each.text}"]
    return "\n".join(lines)


def _cells(each: Comparison) -> list[str]:
    goal = "" if each.goal is None else f"{'≤' if each.at_most else '≥'} {each.goal:g}×"
    verdict = {True: "met", False: "**missed**", None: ""}[each.met]
    spread = f"{len(each.ratios)}: {min(each.ratios):.3g} – {max(each.ratios):.3g}" if len(each.ratios) > 1 else "1"
    processor = f"{statistics.median(each.processor):.3g}×" if each.processor else ""
    return [each.row, each.work, each.against, f"{each.ratio:.3g}×", spread, processor, goal, verdict, each.note]


def _of(findings: Sequence[Finding], kind: type) -> list:
    return [each for each in findings if isinstance(each, kind)]


def machine_in_words(heads: Sequence[Mapping[str, object]]) -> str:
    """Where and when the rows were measured, a line for each way in which they differ."""
    machines: dict[str, list[str]] = {}
    for head in heads:
        machine: Mapping[str, object] = head["machine"]  # type: ignore[assignment]
        words = ", ".join(f"{name} {value}" for name, value in machine.items() if name != "load")
        load = f"{head['row']} at {head['began']}, load {machine['load']}, {head['minutes']} min"
        machines.setdefault(f"{words}; commit {head['commit'] or 'unknown'}", []).append(load)
    return "\n\n".join(f"{words}: {'; '.join(rows)}." for words, rows in machines.items())


def write_page(page: Path, evidence: Path) -> None:
    """Put what the evidence holds between the two marks of the page."""
    page.write_text(filled(page.read_text("utf-8"), json.loads(evidence.read_text("utf-8"))), "utf-8")


def filled(page: str, evidence: Mapping[str, dict]) -> str:
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert mark and end, "the page has lost its marks"
    rows = [parsed(row) for row in evidence.values()]
    findings = [finding for _, each in rows for finding in each]
    words = machine_in_words([head for head, _ in rows])
    return f"{before}{BEGIN}\n\n{table(findings)}\n\n{words}\n\n{END}{after}"


def draw(comparisons: Sequence[Comparison], title: str, path: Path) -> None:
    """How far each median is beyond its goal, on a logarithmic axis, which has no point for 0, and the spread."""
    comparisons = [each for each in comparisons if each.goal is not None and min(each.ratios) > 0]
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
