"""A comparison as tables in Markdown."""

from collections.abc import Iterator, Sequence

from curricle.train.comparison.figures import Figure, Row, Runs, Spending
from curricle.train.comparison.statistics import Mean
from curricle.train.settings import CompareSettings

SAME = "same for every seed"
AVERAGES = {"loss": "a token", "row_loss": "a row"}


def markdown(rows: Sequence[Row], arms: Sequence[Runs], settings: CompareSettings) -> Iterator[str]:
    """The lines of ``compare.md``: what is judged by, then each held-out set, the cost, the tuning and each seed."""
    rows = sorted(rows, key=lambda row: row.loss.value.mean)
    yield from _primary(rows, settings)
    yield from _sets(rows, settings)
    yield from _cost(rows)
    yield from _tuning(rows, settings)
    yield from _seeds(arms)


def _primary(rows: Sequence[Row], settings: CompareSettings) -> Iterator[str]:
    sets = len(rows[0].sets)
    loss = f"held-out loss (nats {AVERAGES['loss' if settings.average == 'token' else 'row_loss']})"
    yield from _table(
        [
            "order",
            loss,
            "difference from random",
            "p, corrected",
            "steps",
            "tokens to random's final loss",
            "FLOPs to it",
        ],
        [
            [
                row.arm,
                _shown(row.loss.value),
                row.incomparable or (_shown(row.loss.difference, "+") if row.loss.difference else "–"),
                "–" if row.adjusted is None else f"{row.adjusted:.3f}" + (" *" if row.stands else ""),
                f"{row.steps:,.0f}",
                _count(row.to_baseline.tokens if row.to_baseline and not row.incomparable else None),
                _count(row.to_baseline.flops if row.to_baseline and not row.incomparable else None),
            ]
            for row in rows
        ],
    )
    yield ""
    yield (
        f"Means over {rows[0].seeds} seed{'s' * (rows[0].seeds > 1)}"
        + (f" and {sets} held-out sets, each set counting alike" if sets > 1 else "")
        + ", ± 95 % intervals of Student's t; differences are paired by seed. "
        + (
            "p is that of the difference, corrected by Holm for all arms that compare; * stands at 5 %. "
            if rows[0].seeds > 1
            else "With one seed there is no interval, and nothing is tested. "
        )
        + "Tokens and FLOPs count training, probes, scoring and tuning. "
        "“–”: there is none, or not every seed came that far."
    )
    if any(row.incomparable for row in rows):
        yield (
            "\nAn arm with over 10 % more or fewer optimizer steps than random is not compared: the difference would "
            "rest on their number. Give it a batch or a number of decisions with which they are as many."
        )


def _sets(rows: Sequence[Row], settings: CompareSettings) -> Iterator[str]:
    """Each set by what is judged by, then the mean over the sets of the other average; differences below them."""
    kind, other = ("loss", "row_loss") if settings.average == "token" else ("row_loss", "loss")
    several = len(rows[0].sets) > 1
    names = list(rows[0].sets) if several else []
    yield "\nHeld-out loss " + ("of each set, and " if several else "") + "by the other average; below, from random:\n"
    yield from _table(
        ["order", *(f"{name}, {AVERAGES[kind]}" for name in names), f"{'mean, ' * several}{AVERAGES[other]}"],
        [
            [row.arm, *(_cell(row, row.sets[name].get(kind)) for name in names), _cell(row, row.means.get(other))]
            for row in rows
        ],
    )
    yield (
        "\nA token: the mean over all tokens of a set. A row: the mean over rows of each row's mean, in which a long "
        "response counts no more than a short one."
    )


def _cell(row: Row, both: Figure | None) -> str:
    if both is None:
        return "–"
    return _shown(both.value) + (
        "" if both.difference is None or row.incomparable else f"<br>{_shown(both.difference, '+')}"
    )


def _cost(rows: Sequence[Row]) -> Iterator[str]:
    parts = list(rows[0].spent)
    yield "\nWhat a run took, as tokens and FLOPs:\n"
    yield from _table(
        ["order", *parts, "in all", "seconds"],
        [
            [row.arm, *(_spending(row.spent[part]) for part in parts), _spending(row.total), f"{row.seconds:,.0f}"]
            for row in rows
        ],
    )
    yield (
        "\nScoring is that of the whole table, for arms that read what a model scored, with FLOPs as if its proxy were "
        "as large as the student; tuning is the runs with the other learning rates. Seconds are of training and probes."
    )
    if any(row.spent["scoring"] is None for row in rows):
        yield (
            "What scoring took is not known here and not counted: no manifest of the table says it. "
            "Give --scoring-tokens."
        )


def _tuning(rows: Sequence[Row], settings: CompareSettings) -> Iterator[str]:
    if not rows[0].tried:
        own = sorted({row.learning_rate for row in rows})
        yield f"\nLearning rate: {', '.join(f'{rate:g}' for rate in own)}; none was tuned."
        return
    seeds = f"{settings.tuning_seeds} of {settings.seeds} seeds"
    yield f"\nLearning rates, by the loss on the tuning set over {seeds}; each arm has its best:\n"
    rates = list(rows[0].tried)
    yield from _table(
        ["order", *rates],
        [
            [
                row.arm,
                *(_tried(row.tried[rate], best=rate == f"{row.learning_rate:g}") for rate in rates),
            ]
            for row in rows
        ],
    )
    if edges := [f"{row.arm} ({row.edge})" for row in rows if row.edge]:
        yield f"\nThe best rate is at the edge of what was tried, and a better one may lie beyond: {', '.join(edges)}."


def _tried(loss: float | None, best: bool) -> str:
    return "not finite" if loss is None else f"**{loss:.4f}**" if best else f"{loss:.4f}"


def _seeds(arms: Sequence[Runs]) -> Iterator[str]:
    yield "\nHeld-out loss of each run, by seed, with its steps:\n"
    seeds = range(len(arms[0].curves))
    yield from _table(
        ["order", *(f"seed {seed}" for seed in seeds)],
        [[runs.arm, *(f"{curve.loss[-1]:.4f} ({curve.steps[-1]:,})" for curve in runs.curves)] for runs in arms],
    )


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *body):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _shown(mean: Mean, sign: str = "") -> str:
    spread = f", {SAME}" if mean.same else "" if mean.interval is None else f" ± {mean.interval:.4f}"
    return f"{mean.mean:{sign}.4f}{spread}"


def _spending(spent: Spending | None) -> str:
    if spent is None:
        return "not known"
    return "0" if not spent.tokens else f"{_count(spent.tokens)}, {_count(spent.flops)}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value < 1e9 else f"{value:.3g}"
