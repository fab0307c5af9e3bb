"""``report.html`` of a run, from its journal and its metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.schemas.common.disk import write_whole
from curricle.schemas.fingerprint import canonical_json
from curricle.schemas.pages.page import rendered
from curricle.train.curricula.base import Decision
from curricle.train.curricula.campus.choosing import CHECK
from curricle.train.ordering.journal import StageRecord
from curricle.train.records.evaluations import Evaluation, read_evaluations
from curricle.train.reporting.answers import held_out_set, shown_prompts
from curricle.train.reporting.charts import Line, Points, bars, lanes, lines, perplexity
from curricle.train.reporting.history import History, read_history
from markupsafe import Markup

REPORT = "report.html"
MOST_POINTS = 400
"""Of a line that has one for each stage."""
MOST_DOMAINS = 18
"""In one picture: so many lines can be told apart."""


@dataclass(frozen=True)
class Chart:
    """A picture of a page, with its heading and what is to be known to read it."""

    title: str
    words: str
    picture: Markup


def write_report(run: Path) -> Path:
    """Describe a run on one self-contained page inside its directory, and return the page's path.

    The page fetches nothing and runs nothing. UsageError if the directory holds no run that has begun.
    """
    run = Path(run)
    history = read_history(run)
    shown = {
        "name": run.resolve().name,
        "facts": _facts(history),
        "notes": [*history.summary.warnings()] if history.summary else [],
        "figures": [*_figures(history)],
        "prompts": shown_prompts(history.lines["eval"]),
        "held_out_set": held_out_set(history.lines["eval"]),
        "evaluations": _evaluations(run),
        "settings": sorted(_leaves(history.settings)),
        "about": {key: str(history.settings.get(key, "")) for key in ("model", "data", "curriculum", "seed")},
        "exposure": history.exposure,
        "plugin": bool(history.journal.header.plugin),
    }
    write_whole(run / REPORT, rendered("curricle.train.reporting", "report.html.j2", shown))
    return run / REPORT


def _evaluations(run: Path) -> list[tuple[str, list[Evaluation]]]:
    """What benchmarks said of each checkpoint that was asked."""
    return [
        (checkpoint, [figure for task in tasks for figure in task.figures])
        for checkpoint, tasks in read_evaluations(run).items()
    ]


def _facts(history: History) -> list[tuple[str, str]]:
    last = history.lines["train"][-1]
    total, probes = last["total"], last["probes"]
    facts = [
        ("steps", f"{last['step']:,}"),
        ("samples", f"{total['samples']:,}"),
        ("tokens trained on", f"{total['tokens']:,} ({total['scored']:,} scored)"),
        ("training", f"{total['flops']:.3g} FLOPs, {total['seconds']:,.0f} s"),
        ("last training loss", f"{last['loss']:.4f} nats/token"),
    ]
    for line in history.lines["eval"][-1:]:
        sets = line.get("sets", {})  # an earlier version had one set, without a name
        facts += _held_out("last held-out loss", line, f", the mean of {len(sets)} sets" if len(sets) > 1 else "")
        for name, values in sets.items() if len(sets) > 1 else ():
            facts += _held_out(f"on {name}", values)
        for name, values in line.get("tuning", {}).items():
            facts += _held_out(f"on {name}, for tuning", values)
    if history.journal.header.plugin:
        facts.append(("rows visited", "not counted: the curriculum is a plug-in, whose code a report does not run"))
    if history.decisions:
        share = probes["flops"] / total["flops"]
        facts.append(("questions to the student", f"{len(history.decisions):,}, in {len(history.stages):,} stages"))
        facts.append(
            (
                "probes",
                f"{probes['tokens']:,} tokens, {probes['flops']:.3g} FLOPs ({share:.0%} of training), "
                f"{probes['seconds']:,.0f} s",
            )
        )
    if history.summary:
        facts += [(words.partition(": ")[0], words.partition(": ")[2]) for words in history.summary.short()]
    return facts


def _held_out(name: str, values: Mapping[str, Any], more: str = "") -> list[tuple[str, str]]:
    """A fact about a loss on held-out rows; none where no row has a token."""
    loss = values["loss"]
    return [] if loss is None else [(name, f"{loss:.4f} nats/token over {values['tokens']:,} tokens{more}")]


def _figures(history: History) -> Iterator[Chart]:
    train, held_out = history.lines["train"], history.lines["eval"]
    end = train[-1]["total"]["samples"]
    yield Chart(
        "Loss",
        "Mean negative log-likelihood of the response tokens. Training loss follows the difficulty of what is trained "
        "on; only the held-out loss compares.",
        lines(_losses(train, held_out), "samples", "nats per token", "Loss"),
    )
    if stretches := [*_choices(history.stages, end)]:
        yield Chart(
            "What was chosen when",
            "The perspective whose next slice was trained on, or the stage.",
            lanes(stretches, "samples", "Chosen perspectives"),
        )
    if weights := _weights(history.stages, end):
        yield Chart(
            "Weights of the domains",
            "Which share of the rows each domain has, as the mixture decided"
            + _of_many(len(history.stages[-1].weights), "highest")
            + ".",
            lines(weights, "samples", "share", "Weights of domains", zero=True, until=end),
        )
    if history.summary and history.summary.domains:
        yield exposure_of_domains(history.summary.domains)
    if candidates := _candidates(history):
        yield Chart(
            "Perplexity of the candidates",
            "What the student said of the next slice of each perspective, or of some rows of it, where it was asked; "
            "the lowest is trained on.",
            lines(candidates, "samples", "perplexity", "Perplexity of candidates", log=True, until=end),
        )
    competence: dict[str, list[tuple[float, float]]] = {}
    for line in train:
        for name, value in line["competence"].items():
            competence.setdefault(name, []).append((line["total"]["samples"], value))
    if competence:
        opened = {name: Line(points) for name, points in competence.items()}
        yield Chart(
            "Competence",
            "The share of each order that has been opened.",
            lines(opened, "samples", "share", "Competence by perspective", zero=True, top=1.02),
        )
    yield Chart(
        "Learning rate",
        "As applied.",
        lines({"lr": Line(_series(train, "lr"))}, "samples", "learning rate", "Learning rate", zero=True),
    )
    yield Chart(
        "Norm of the gradient",
        "Before clipping.",
        lines({"norm": Line(_series(train, "gradient_norm"))}, "samples", "norm", "Gradient norm", zero=True),
    )
    if history.summary and history.summary.tenths:
        yield exposure_by_difficulty(history.summary.tenths)
    if history.exposure:
        yield exposure(history.exposure.times)


def exposure_by_difficulty(tenths: Mapping[str, Sequence[float]]) -> Chart:
    """``tenths``: for each order the visits of a row in each tenth of it."""
    series = {name: Line([*enumerate(map(float, values), 1)], dots=True) for name, values in tenths.items()}
    words = "How often a row was visited, by tenth of each order from easy to hard."
    return Chart(
        "Exposure by difficulty",
        words,
        lines(series, "tenth of the order", "visits of a row", "Exposure by difficulty", zero=True),
    )


def exposure_of_domains(domains: Mapping[str, Sequence[int]]) -> Chart:
    """``domains``: the rows and the visits of each; the largest of them are drawn."""
    largest = sorted(domains, key=lambda name: -domains[name][0])[:MOST_DOMAINS]
    visits = [(name, 0.0, count / max(1, rows)) for name, (rows, count) in domains.items() if name in largest]
    words = "How often a row of each domain was visited" + _of_many(len(domains), "largest") + "."
    return Chart("Exposure of domains", words, lanes(visits, "visits of a row", "Exposure of domains"))


def exposure(times: Mapping[int, int]) -> Chart:
    """``times[k]``: rows that were visited k times."""
    return Chart("Exposure", "How many rows were visited how often.", bars(times, "visits", "rows", "Exposure counts"))


def _losses(train: Sequence[Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]]) -> dict[str, Line]:
    series = {"training": Line(_series(train, "loss"))}
    if held_out:
        series["held out"] = Line(_series(held_out, "loss"), dots=True)
        names = held_out[-1].get("sets", {})
        for name in names if len(names) > 1 else ():
            values = [(line["total"]["samples"], line["sets"][name]["loss"]) for line in held_out]
            series[f"held out: {name}"] = Line([(at, value) for at, value in values if value is not None], dots=True)
    return series


def _series(records: Sequence[Mapping[str, Any]], key: str) -> Points:
    return [(line["total"]["samples"], line[key]) for line in records if line[key] is not None]


def _choices(stages: Sequence[StageRecord], end: int) -> Iterator[tuple[str, float, float]]:
    """Which perspective was trained on from which sample to which."""
    begin = 0
    for stage in stages:
        if stage.choice and begin < end:
            yield stage.choice, float(begin), float(min(begin + stage.rows, end))
        begin += stage.rows


def _weights(stages: Sequence[StageRecord], end: int) -> dict[str, Line]:
    """The weights along the samples, as many of them as can be told apart; none where they never change."""
    at, points = 0, list[tuple[int, Mapping[str, float]]]()
    for stage in stages:
        if stage.weights and at < end:
            points.append((at, stage.weights))
        at += stage.rows
    if all(weights == points[0][1] for _, weights in points):
        return {}
    points = points[:: -(-len(points) // MOST_POINTS)]
    highest = sorted(points[0][1], key=lambda name: -max(weights[name] for _, weights in points))[:MOST_DOMAINS]
    return {name: Line([(at, weights[name]) for at, weights in points]) for name in points[0][1] if name in highest}


def _of_many(count: int, which: str) -> str:
    """What of many domains a picture shows."""
    return f"; the {MOST_DOMAINS} {which} of {count:,}" if count > MOST_DOMAINS else ""


def _candidates(history: History) -> dict[str, Line]:
    points: dict[str, list[tuple[float, float]]] = {}
    position = 0
    for record in history.journal.records:
        if isinstance(record, Decision):
            if record.choice is not None or record.purpose == CHECK:
                for name, value in zip(record.candidates, record.log_perplexity, strict=True):
                    points.setdefault(name, []).append((position, perplexity(value)))
        elif isinstance(record, StageRecord):
            position += record.rows
    return {name: Line(each, dots=True) for name, each in points.items()}


def _leaves(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in tree.items():
        pairs += (
            _leaves(value, f"{prefix}{key}.")
            if isinstance(value, dict) and value
            else [(prefix + key, canonical_json(value))]
        )
    return pairs
