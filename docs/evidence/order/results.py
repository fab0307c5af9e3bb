"""What the comparison gave, as small files: its figures, the ids of every set, and a picture. No text of the data."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import polars as pl
from matplotlib.figure import Figure

LABELS = {
    "random": "random",
    "campus": "CAMPUS",
    "campus?probe=exact": "CAMPUS, asking about every row",
    "easy_to_hard?by=loss": "easy to hard",
    "hard_to_easy?by=loss": "hard to easy",
}


def write_results(compared: Path, tables: Mapping[str, Path], stages: Mapping[str, bool], results: Path) -> None:
    """Write ``compare.json``, ``.md`` and ``.png``, ``rows.parquet``, ``stages.json`` and ``sets.svg``.

    ``tables``: of each set, by its name. ``stages``: by seed, whether CAMPUS's stages leave random order as it is.
    """
    results.mkdir(parents=True, exist_ok=True)
    for name in ("compare.json", "compare.md", "compare.png"):
        shutil.copyfile(compared / name, results / name)
    ids = [
        pl.read_parquet(table / "data" / "*.parquet", columns=["example_id", "source"]).with_columns(set=pl.lit(name))
        for name, table in tables.items()
    ]
    pl.concat(ids).sort("set", "source", "example_id").write_parquet(results / "rows.parquet")
    (results / "stages.json").write_text(json.dumps(stages, indent=1) + "\n", "utf-8")
    rows = json.loads((results / "compare.json").read_text("utf-8"))["rows"]
    with matplotlib.rc_context({"svg.hashsalt": "order"}):  # the same figures give the same bytes
        picture(rows).savefig(results / "sets.svg", metadata={"Date": None})


def picture(rows: list[dict[str, Any]]) -> Figure:
    """Each order's difference from random order, with its interval: over all sets, and for each of them."""
    arms = [row for row in rows if row["loss"]["difference"]][::-1]
    sets = ["mean of the sets", *rows[0]["sets"]]
    figure = Figure(figsize=(10, 1.1 + 0.34 * len(arms)), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(sets), sharey=True), sets, strict=True):
        axes.axvline(0, color="0.6", linewidth=1)
        for at, row in enumerate(arms):
            figures = row["loss"] if name == sets[0] else row["sets"][name]["row_loss"]
            difference, half = figures["difference"]["mean"], figures["difference"]["interval"] or 0.0
            colour = "C0" if abs(difference) > half > 0 else "0.55"
            axes.plot([difference - half, difference + half], [at, at], color=colour, linewidth=2)
            axes.plot(difference, at, "o", color=colour)
        axes.set_title(name, fontsize=10)
        axes.set_yticks(range(len(arms)), [LABELS.get(row["arm"], row["arm"]) for row in arms])
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.2)
    seeds = f"{rows[0]['seeds']} seeds, 95 % intervals"
    figure.supxlabel(f"held-out loss less that of random order, nats per token; {seeds}", fontsize=9)
    return figure
