"""A comparison as tables: of Markdown, to paste, and of a page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from curricle.train.comparison.figures import Figure, Row, Runs, Spending
from curricle.train.comparison.statistics import Mean
from curricle.train.settings import CompareSettings

SAME = "same for every seed"
AVERAGES = {"loss": "a token", "row_loss": "a row"}


@dataclass(frozen=True)
class TableCell:
    """A cell of a table: a figure, what stands ``below`` it, and whether it is the ``best`` of its row."""

    text: str
    below: str = ""
    best: bool = False


@dataclass(frozen=True)
class Section:
    """A table with what is to be known before it is read, and after. ``rows`` begin with the name of the order."""

    title: str
    before: str
    head: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    after: Sequence[str]

    @classmethod
    def of(
        cls, title: str, before: str, head: Sequence[str], rows: Sequence[Sequence[str | TableCell]], *after: str
    ) -> "Section":
        cells = [[cell if isinstance(cell, TableCell) else TableCell(cell) for cell in row] for row in rows]
        return cls(title, before, head, cells, [words for words in after if words])


def sections(rows: Sequence[Row], arms: Sequence[Runs], settings: CompareSettings) -> Iterator[Section]:
    """What is judged by, then each held-out set, the cost, the tuning and each seed; the best order first."""
    rows = sorted(rows, key=lambda row: row.loss.value.mean)
    yield _primary(rows, settings)
    yield _sets(rows, settings)
    if names := list(dict.fromkeys(name for row in rows for name in row.benchmarks)):
        yield _benchmarks(rows, names)
    yield _cost(rows)
    yield _tuning(rows, settings)
    yield _seeds(arms)


def markdown(sections: Sequence[Section]) -> str:
    """``compare.md``."""
    paragraphs = [
        paragraph
        for section in sections
        for paragraph in (section.before, "\n".join(_table(section)), *section.after)
        if paragraph
    ]
    return "\n\n".join(paragraphs) + "\n"


def _table(section: Section) -> Iterator[str]:
    if not section.head:
        return
    body = ([_in_markdown(cell) for cell in row] for row in section.rows)
    for line in ([*section.head], ["---"] * len(section.head), *body):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"


def _in_markdown(cell: TableCell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return f"{text}<br>{cell.below}" if cell.below else text


def _primary(rows: Sequence[Row], settings: CompareSettings) -> Section:
    sets = len(rows[0].sets)
    loss = f"held-out loss (nats {AVERAGES['loss' if settings.average == 'token' else 'row_loss']})"
    return Section.of(
        "Held-out loss",
        "",
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
        f"Means over {rows[0].seeds} seed{'s' * (rows[0].seeds > 1)}"
        + (f" and {sets} held-out sets, each set counting alike" if sets > 1 else "")
        + ", ± 95 % intervals of Student's t; differences are paired by seed. "
        + (
            "p is that of the difference, corrected by Holm for all arms that compare; * stands at 5 %. "
            if rows[0].seeds > 1
            else "With one seed there is no interval, and nothing is tested. "
        )
        + "Tokens and FLOPs count training, probes, scoring and tuning. "
        "“–”: there is none, or not every seed came that far.",
        "An arm with over 10 % more or fewer optimizer steps than random is not compared: the difference would "
        "rest on their number. Give it a batch or a number of decisions with which they are as many."
        if any(row.incomparable for row in rows)
        else "",
    )


def _sets(rows: Sequence[Row], settings: CompareSettings) -> Section:
    """Each set by what is judged by, then the mean over the sets of the other average; differences below them."""
    kind, other = ("loss", "row_loss") if settings.average == "token" else ("row_loss", "loss")
    several = len(rows[0].sets) > 1
    names = list(rows[0].sets) if several else []
    return Section.of(
        "Other averages" if not several else "Each held-out set",
        "Held-out loss " + ("of each set, and " if several else "") + "by the other average; below, from random:",
        ["order", *(f"{name}, {AVERAGES[kind]}" for name in names), f"{'mean, ' * several}{AVERAGES[other]}"],
        [
            [row.arm, *(_cell(row, row.sets[name].get(kind)) for name in names), _cell(row, row.means.get(other))]
            for row in rows
        ],
        "A token: the mean over all tokens of a set. A row: the mean over rows of each row's mean, in which a long "
        "response counts no more than a short one.",
    )


def _cell(row: Row, both: Figure | None) -> str | TableCell:
    if both is None:
        return "–"
    compared = both.difference is not None and not row.incomparable
    return TableCell(_shown(both.value), _shown(both.difference, "+") if compared and both.difference else "")


def _benchmarks(rows: Sequence[Row], names: Sequence[str]) -> Section:
    return Section.of(
        "Benchmarks",
        "Tasks of lm-evaluation-harness, of the last checkpoints; below, from random:",
        ["order", *names],
        [[row.arm, *(_cell(row, row.benchmarks.get(name)) for name in names)] for row in rows],
        "± is over seeds, and says nothing of the questions, which are the same for all. None of these is tested: "
        "what is judged by is the held-out loss.",
    )


def _cost(rows: Sequence[Row]) -> Section:
    parts = list(rows[0].spent)
    words = (
        "Scoring is that of the whole table, for arms that read what a model scored, with FLOPs as if its proxy were "
        "as large as the student; tuning is the runs with the other learning rates. Seconds are of training and probes."
    )
    if any(row.spent["scoring"] is None for row in rows):
        words += (
            "\nWhat scoring took is not known here and not counted: no manifest of the table says it. "
            "Give --scoring-tokens."
        )
    return Section.of(
        "Cost",
        "What a run took, as tokens and FLOPs:",
        ["order", *parts, "in all", "seconds"],
        [
            [row.arm, *(_spending(row.spent[part]) for part in parts), _spending(row.total), f"{row.seconds:,.0f}"]
            for row in rows
        ],
        words,
    )


def _tuning(rows: Sequence[Row], settings: CompareSettings) -> Section:
    title = "Learning rates"
    if not rows[0].tried:
        own = sorted({row.learning_rate for row in rows})
        return Section.of(title, f"Learning rate: {', '.join(f'{rate:g}' for rate in own)}; none was tuned.", [], [])
    rates = list(rows[0].tried)
    edges = [f"{row.arm} ({row.edge})" for row in rows if row.edge]
    return Section.of(
        title,
        f"Learning rates, by the loss on the tuning set over {settings.tuning_seeds} of {settings.seeds} seeds; "
        "each arm has its best:",
        ["order", *rates],
        [
            [row.arm, *(_tried(row.tried[rate], best=rate == f"{row.learning_rate:g}") for rate in rates)]
            for row in rows
        ],
        f"The best rate is at the edge of what was tried, and a better one may lie beyond: {', '.join(edges)}."
        if edges
        else "",
    )


def _tried(loss: float | None, best: bool) -> str | TableCell:
    return "not finite" if loss is None else TableCell(f"{loss:.4f}", best=best)


def _seeds(arms: Sequence[Runs]) -> Section:
    return Section.of(
        "Each run",
        "Held-out loss of each run, by seed, with its steps:",
        ["order", *(f"seed {seed}" for seed in range(len(arms[0].curves)))],
        [[runs.arm, *(f"{curve.loss[-1]:.4f} ({curve.steps[-1]:,})" for curve in runs.curves)] for runs in arms],
    )


def _shown(mean: Mean, sign: str = "") -> str:
    spread = f", {SAME}" if mean.same else "" if mean.interval is None else f" ± {mean.interval:.4f}"
    return f"{mean.mean:{sign}.4f}{spread}"


def _spending(spent: Spending | None) -> str:
    if spent is None:
        return "not known"
    return "0" if not spent.tokens else f"{_count(spent.tokens)}, {_count(spent.flops)}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value < 1e9 else f"{value:.3g}"
