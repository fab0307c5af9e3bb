"""Figures of the experiment: how well a choice agrees with published ones, and what training on a choice is worth.

Everything here is a function of small tables of numbers, so that what a page states can be computed again from them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

PUBLISHED = {"opt-350m": "OPT-350M", "opt-1.3b": "OPT-1.3B", "opt-2.7b": "OPT-2.7B"}
COLUMNS = {"lp_app": "LP1_approx", "lp_1": "LP1"}
"""A column of ours, and the ending of the published one."""
SHARES = (0.33, 0.10)
RESAMPLES = 2_000

Numbers = NDArray[np.float64]


def rho(*columns: Numbers) -> float:
    """Spearman's correlation of the first two columns, (rows,) each, with the others held constant (partial).

    It is that of the ranks: minus the off-diagonal of the inverse of their correlation matrix, scaled.
    """
    matrix = np.corrcoef([stats.rankdata(column) for column in columns])
    if len(columns) == 2:
        return float(matrix[0, 1])
    inverse = np.linalg.inv(matrix)
    return float(-inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1]))


def with_interval(*columns: Numbers, resamples: int = RESAMPLES) -> dict[str, float]:
    """``rho`` of these columns, and the 95 % interval of a bootstrap over rows (BCa)."""
    result = stats.bootstrap(
        columns, rho, paired=True, vectorized=False, n_resamples=resamples, rng=np.random.default_rng(0)
    )
    interval = result.confidence_interval
    return {"rho": rho(*columns), "low": float(interval.low), "high": float(interval.high)}


def overlap(one: Numbers, other: Numbers, share: float) -> dict[str, float]:
    """Which share of the lowest of one are among as many lowest of the other; and what chance gives, 95 % of the time.

    Chance is exact: draws without replacement have a hypergeometric distribution.
    """
    count = round(share * len(one))
    lowest = [set(np.argsort(column, kind="stable")[:count].tolist()) for column in (one, other)]
    low, high = stats.hypergeom(len(one), count, count).interval(0.95)
    return {
        "share": share,
        "rows": count,
        "overlap": len(lowest[0] & lowest[1]) / count,
        "chance": count / len(one),
        "chance_low": float(low) / count,
        "chance_high": float(high) / count,
    }


def selectors(rows: pl.DataFrame, name: str, column: str) -> dict[str, Numbers]:
    """What a row may be chosen by, low first: a learning percentage of ours, and what is to be had without one."""
    ways = {
        f"{column} of {name}": rows[column],
        "longest response": -rows["response_tokens"].cast(pl.Float64),
        f"low P₀ of {name}": rows["ppl_epoch_0"],
    }
    if "ifd_ppl_ratio" in rows.columns:
        ways[f"high IFD of {name}"] = -rows["ifd_ppl_ratio"]
    return {way: values.to_numpy() for way, values in ways.items()}


def correlation(ours: pl.DataFrame, published: pl.DataFrame, name: str, resamples: int = RESAMPLES) -> dict[str, Any]:
    """The columns of a small model beside the published ones of larger models, over the rows that both have.

    ``ours``: ``alpaca_index``, ``response_tokens``, ``ppl_epoch_…``, ``lp_app``, and ``lp_1`` and ``ifd_ppl_ratio``
    where they were computed. ``published``: ``alpaca_index`` and columns such as ``opt-350m__LP1``. ``name``: of the
    small model.
    """
    both = ours.join(published, on="alpaca_index").drop_nulls()
    length, before = (both[key].cast(pl.Float64).to_numpy() for key in ("response_tokens", "ppl_epoch_0"))
    sizes = [size for size in PUBLISHED if f"{size}__P0" in published.columns]
    lines = []
    for column, ending in COLUMNS.items():
        if column not in both.columns:
            continue
        ways = selectors(both, name, column)
        beginnings = {f"{column} of {name}": before}
        for size in sizes:
            target = both[f"{size}__{ending}"].to_numpy()
            for selector, values in ways.items():
                line = {
                    "column": column,
                    "target": PUBLISHED[size],
                    "selector": selector,
                    **with_interval(values, target, resamples=resamples),
                    "overlaps": [overlap(values, target, share) for share in SHARES],
                }
                if selector in beginnings:
                    line["partial"] = with_interval(values, target, length, beginnings[selector], resamples=resamples)
                lines.append(line)
            ways[own := f"{column} of {PUBLISHED[size]}"] = target  # chooses for larger ones
            beginnings[own] = both[f"{size}__P0"].to_numpy()
    untrained = {
        PUBLISHED[size]: with_interval(before, both[f"{size}__P0"].to_numpy(), resamples=resamples) for size in sizes
    }
    return {"rows": len(both), "selector": name, "untrained": untrained, "lines": lines}


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number, as Holm (1979) does: the family-wise error stays below the level."""
    order = np.argsort(values, kind="stable")
    scaled = [min(1.0, (len(values) - rank) * values[index]) for rank, index in enumerate(order)]
    running = np.maximum.accumulate(scaled)
    return [float(running[rank]) for rank in np.argsort(order, kind="stable")]


def comparison(losses: Mapping[str, Sequence[float]], baseline: str) -> dict[str, dict[str, float]]:
    """Held-out losses of each arm, one a seed, against those of ``baseline`` with the same seeds.

    Differences are paired; their intervals are Student's t, and the p values are Holm's over all arms. Where every
    difference is equal there is nothing to test, and p is None.
    """
    result: dict[str, dict[str, Any]] = {}
    for arm, values in losses.items():
        result[arm] = {"loss": float(np.mean(values)), "seeds": len(values)}
        if arm != baseline:
            differences = np.subtract(values, losses[baseline])
            error = float(stats.sem(differences))
            half = float(stats.t.ppf(0.975, len(values) - 1) * error)
            test = float(stats.ttest_1samp(differences, 0).pvalue) if error else None
            result[arm] |= {"difference": float(np.mean(differences)), "half": half, "p": test}
    tested = [arm for arm in result if result[arm].get("p") is not None]
    for arm, p in zip(tested, holm([result[arm]["p"] for arm in tested]), strict=True):
        result[arm]["p_holm"] = p
    return result


def correlation_table(figures: Mapping[str, Any], column: str) -> list[str]:
    """Lines of a Markdown table: a line for each way to choose, a group of columns for each target."""
    lines = [line for line in figures["lines"] if line["column"] == column]
    targets = list(dict.fromkeys(line["target"] for line in lines))
    head = [part for target in targets for part in (f"ρ with {target}", "33 %", "10 %")]
    table = [["chosen by", *head], ["---", *["---:"] * len(head)]]
    for selector in dict.fromkeys(line["selector"] for line in lines):
        cells = [selector]
        for target in targets:
            line = next((each for each in lines if (each["selector"], each["target"]) == (selector, target)), None)
            cells += ["", "", ""] if line is None else [_spread(line), *[_percent(each) for each in line["overlaps"]]]
        table.append(cells)
    chance = lines[0]["overlaps"]
    table.append(["chance (95 %)", *["0", *[_chance(each) for each in chance]] * len(targets)])
    return [f"| {' | '.join(cells)} |" for cells in table]


def partial_table(figures: Mapping[str, Any], column: str) -> list[str]:
    """Lines of a Markdown table: what learning percentages have in common beyond a length and a first perplexity."""
    lines = [line for line in figures["lines"] if line["column"] == column and "partial" in line]
    targets = list(dict.fromkeys(line["target"] for line in lines))
    table = [["", *[f"partial ρ with {target}" for target in targets]], ["---", *["---:"] * len(targets)]]
    for selector in dict.fromkeys(line["selector"] for line in lines):
        cells = {line["target"]: _spread(line["partial"]) for line in lines if line["selector"] == selector}
        table.append([selector, *[cells.get(target, "") for target in targets]])
    return [f"| {' | '.join(cells)} |" for cells in table]


AVERAGES = ("loss", "row_loss")
"""Held-out losses of a run: over all tokens, and over the rows of each row's mean."""


def training(runs: pl.DataFrame, baseline: str) -> dict[str, Any]:
    """What became of the runs, a row for each seed and arm: ``losses`` by seed and the comparison of ``arms``, of each
    average.
    """
    result: dict[str, Any] = {}
    names = runs["arm"].unique(maintain_order=True).to_list()
    for average, prefix in zip(AVERAGES, ("", "row_"), strict=True):
        losses = {arm: runs.filter(pl.col("arm") == arm).sort("seed")[average].to_list() for arm in names}
        arms = comparison(losses, baseline)
        for arm, line in arms.items():
            line |= runs.filter(pl.col("arm") == arm).select("visits", "tokens", "steps").mean().to_dicts()[0]
        result |= {f"{prefix}losses": losses, f"{prefix}arms": arms}
    return result


def comparison_table(figures: Mapping[str, Any], baseline: str, average: str = "loss") -> list[str]:
    """Lines of a Markdown table: a line for each arm."""
    arms, words = (figures["arms"], "a token") if average == "loss" else (figures["row_arms"], "a row")
    table = [
        ["trained on", f"loss {words}", f"difference from {baseline}", "p (Holm)", "visits", "tokens", "steps"],
        ["---", *["---:"] * 6],
    ]
    for arm, line in arms.items():
        difference = f"{line['difference']:+.4f} ± {line['half']:.4f}" if "difference" in line else "–"
        p = f"{line['p_holm']:.3f}" if "p_holm" in line else "–"
        size = (f"{line[key]:,.0f}" for key in ("visits", "tokens", "steps"))
        table.append([arm, f"{line['loss']:.4f}", difference, p, *size])
    return [f"| {' | '.join(cells)} |" for cells in table]


def correlation_picture(figures: Mapping[str, Any], column: str, path: Path) -> None:
    """Spearman's ρ with the published column of each model, with its interval, for each way to choose."""
    from matplotlib.figure import Figure

    lines = [line for line in figures["lines"] if line["column"] == column]
    ways, targets = (list(dict.fromkeys(line[key] for line in lines)) for key in ("selector", "target"))
    figure = Figure(figsize=(8, 0.55 * len(ways) + 1.4), layout="constrained")
    axes = figure.subplots()
    for offset, target in zip(np.linspace(-0.22, 0.22, len(targets)), targets, strict=True):
        own = [line for line in lines if line["target"] == target]
        heights = [ways.index(line["selector"]) + offset for line in own]
        middle = [line["rho"] for line in own]
        errors = [[line["rho"] - line["low"] for line in own], [line["high"] - line["rho"] for line in own]]
        axes.errorbar(middle, heights, xerr=errors, fmt="o", markersize=4, capsize=2, label=target)
    axes.set_yticks(range(len(ways)), ways)
    axes.invert_yaxis()
    axes.axvline(0, color="0.7", linewidth=1)
    ending = {"lp_app": "LP_app", "lp_1": "LP"}[column]
    axes.set_xlabel(f"Spearman's ρ with the published {ending} ({figures['rows']} rows)")
    axes.legend(frameon=False, loc="best")
    figure.savefig(path, dpi=130)


def comparison_picture(figures: Mapping[str, Any], baseline: str, path: Path) -> None:
    """The paired difference of each arm from the baseline, of each average: each seed, their mean and its interval."""
    from matplotlib.figure import Figure

    arms = [arm for arm in figures["arms"] if arm != baseline]
    figure = Figure(figsize=(10, 0.55 * len(arms) + 1.4), layout="constrained")
    for axes, prefix, words in zip(figure.subplots(1, 2, sharey=True), ("", "row_"), ("a token", "a row"), strict=True):
        losses, lines = figures[f"{prefix}losses"], figures[f"{prefix}arms"]
        for height, arm in enumerate(arms):
            values = np.subtract(losses[arm], losses[baseline])
            axes.plot(values, [height] * len(values), "o", color="0.6", markersize=4)
            middle, half = lines[arm]["difference"], lines[arm]["half"]
            axes.errorbar(middle, height, xerr=half, fmt="D", markersize=5, capsize=3, color="C0")
        axes.set_yticks(range(len(arms)), arms)
        axes.axvline(0, color="0.7", linewidth=1)
        axes.set_xlabel(f"loss {words}, minus that of {baseline} (nats)")
    axes.invert_yaxis()  # shared by both
    figure.savefig(path, dpi=130)


def _spread(line: Mapping[str, float]) -> str:
    return f"{line['rho']:.3f} ({line['low']:.2f} – {line['high']:.2f})"


def _percent(line: Mapping[str, float]) -> str:
    return f"{100 * line['overlap']:.0f}"


def _chance(line: Mapping[str, float]) -> str:
    return f"{100 * line['chance']:.0f} ({100 * line['chance_low']:.0f} – {100 * line['chance_high']:.0f})"
