"""``report.html`` of a run, from its journal and its metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curricle.schemas.common.disk import write_whole
from curricle.schemas.fingerprint import canonical_json
from curricle.train.curricula.base import Decision
from curricle.train.curricula.campus.choosing import CHECK
from curricle.train.ordering.journal import StageRecord
from curricle.train.reporting.charts import bars, lanes, lines, perplexity
from curricle.train.reporting.history import History, read_history
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

REPORT = "report.html"


def write_report(run: Path) -> Path:
    """Describe a run on one self-contained page inside its directory, and return the page's path.

    The page fetches nothing and runs nothing. UsageError if the directory holds no run that has begun.
    """
    run = Path(run)
    history = read_history(run)
    environment = Environment(
        loader=PackageLoader("curricle.train.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    style = Markup(environment.loader.get_source(environment, "report.css")[0])  # type: ignore[union-attr]
    page = template.render(
        style=style,
        name=run.resolve().name,
        facts=_facts(history),
        figures=_figures(history),
        settings=sorted(_leaves(history.settings)),
        exposure=history.exposure,
    )
    write_whole(run / REPORT, page)
    return run / REPORT


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
        facts += [("note", words) for words in history.summary.warnings()]
    return facts


def _held_out(name: str, values: Mapping[str, Any], more: str = "") -> list[tuple[str, str]]:
    """A fact about a loss on held-out rows; none where no row has a token."""
    loss = values["loss"]
    return [] if loss is None else [(name, f"{loss:.4f} nats/token over {values['tokens']:,} tokens{more}")]


def _figures(history: History) -> list[tuple[str, str, Markup]]:
    """Title, one line of explanation, picture."""
    train, held_out = history.lines["train"], history.lines["eval"]
    loss = {"training": [(line["total"]["samples"], line["loss"]) for line in train if line["loss"] is not None]}
    if held_out:
        loss["held out"] = [(line["total"]["samples"], line["loss"]) for line in held_out if line["loss"] is not None]
        names = held_out[-1].get("sets", {})
        for name in names if len(names) > 1 else ():
            values = [(line["total"]["samples"], line["sets"][name]["loss"]) for line in held_out]
            loss[f"held out: {name}"] = [(samples, value) for samples, value in values if value is not None]
    figures = [
        (
            "Loss",
            "Mean negative log-likelihood of the response tokens. Training loss follows the difficulty of what is "
            "trained on; only the held-out loss compares.",
            lines(loss, "samples", "nats per token", "Loss", [name for name in loss if name != "training"]),
        ),
    ]
    ends, stretches = 0, []
    for stage in history.stages:
        start, ends = ends, ends + stage.rows
        if stage.choice and start < train[-1]["total"]["samples"]:
            stretches.append((stage.choice, float(start), float(min(ends, train[-1]["total"]["samples"]))))
    if stretches:
        figures.append(
            (
                "What was chosen when",
                "The perspective whose next slice was trained on.",
                lanes(stretches, "samples", "Chosen perspectives"),
            )
        )
    candidates: dict[str, list[tuple[float, float]]] = {}
    position = 0
    for record in history.journal.records:
        if isinstance(record, Decision):
            if record.choice is not None or record.purpose == CHECK:
                for name, value in zip(record.candidates, record.log_perplexity, strict=True):
                    candidates.setdefault(name, []).append((position, perplexity(value)))
        elif isinstance(record, StageRecord):
            position += record.rows
    if candidates:
        figures.append(
            (
                "Perplexity of the candidates",
                "What the student said of the next slice of each perspective, or of some rows of it, where it was "
                "asked; the lowest is trained on.",
                lines(candidates, "samples", "perplexity", "Perplexity of candidates", list(candidates), log=True),
            )
        )
    competence: dict[str, list[tuple[float, float]]] = {}
    for line in train:
        for name, value in line["competence"].items():
            competence.setdefault(name, []).append((line["total"]["samples"], value))
    if competence:
        figures.append(
            (
                "Competence",
                "The share of each order that has been opened.",
                lines(competence, "samples", "share", "Competence by perspective"),
            )
        )
    figures.append(
        (
            "Learning rate",
            "As applied.",
            lines({"lr": [(line["total"]["samples"], line["lr"]) for line in train]}, "samples", "", "Learning rate"),
        )
    )
    figures.append(
        (
            "Norm of the gradient",
            "Before clipping.",
            lines(
                {"norm": [(line["total"]["samples"], line["gradient_norm"]) for line in train]},
                "samples",
                "",
                "Gradient norm",
            ),
        )
    )
    if history.summary and history.summary.tenths:
        tenths = {
            name: [(float(tenth), visits) for tenth, visits in enumerate(values, 1)]
            for name, values in history.summary.tenths.items()
        }
        figures.append(
            (
                "Exposure by difficulty",
                "How often a row was visited, by tenth of each order from easy to hard.",
                lines(tenths, "tenth of the order", "visits of a row", "Exposure by difficulty", list(tenths)),
            )
        )
    if history.exposure:
        figures.append(
            (
                "Exposure",
                "How many rows were visited how often.",
                bars(history.exposure.times, "visits", "rows", "Exposure counts"),
            )
        )
    return figures


def _leaves(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in tree.items():
        pairs += (
            _leaves(value, f"{prefix}{key}.")
            if isinstance(value, dict) and value
            else [(prefix + key, canonical_json(value))]
        )
    return pairs
