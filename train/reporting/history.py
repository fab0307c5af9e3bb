"""What a run left behind, read back: its metrics, its journal, and which rows it visited how often."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.schemas.common.config import build
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.plugins import is_file
from curricle.train.curricula.base import Decision
from curricle.train.data.holdout import split
from curricle.train.ordering.batches import batches, response_tokens
from curricle.train.ordering.exposure import Exposure
from curricle.train.ordering.journal import JOURNAL, Journal, StageRecord, read_journal
from curricle.train.ordering.order import domains_of, sorted_by
from curricle.train.ordering.replay import follow, recorded_course
from curricle.train.ordering.summary import Summary, Tally
from curricle.train.records.metrics import read_metrics
from curricle.train.records.run_json import RUN, no_run, read_description
from curricle.train.settings import RunSettings


@dataclass(frozen=True)
class History:
    """A run as its directory records it. ``lines`` are the metrics by kind.

    ``exposure`` and ``summary`` are None without the table, and where the curriculum is a plug-in: reading about a run
    runs no code that came with it.
    """

    settings: dict[str, Any]
    lines: dict[str, list[dict[str, Any]]]
    journal: Journal
    exposure: Exposure | None
    summary: Summary | None

    @property
    def stages(self) -> list[StageRecord]:
        return [record for record in self.journal.records if isinstance(record, StageRecord)]

    @property
    def decisions(self) -> list[Decision]:
        return [record for record in self.journal.records if isinstance(record, Decision)]


def read_history(run: Path) -> History:
    """UsageError if the directory holds no run, or none that has begun."""
    about = read_description(run)
    if not about:
        raise no_run(run)
    metrics = read_metrics(run)
    if not any(line["kind"] == "train" for line in metrics):
        raise UsageError("the run has no metrics yet", where=str(run), remedy="let it train first")
    journal = read_journal(run / JOURNAL)
    lines = {kind: [line for line in metrics if line["kind"] == kind] for kind in ("train", "eval", "probe")}
    counts = _counts(about["settings"], journal, lines["train"][-1]["step"])
    return History(about["settings"], lines, journal, *counts)


def _counts(values: dict[str, Any], journal: Journal, steps: int) -> tuple[Exposure | None, Summary | None]:
    """What the order came to in the first ``steps`` steps, derived again from the table and the journal."""
    settings = build(RunSettings, values, where=RUN)
    if not settings.data.exists() or journal.header.plugin or is_file(journal.header.curriculum):
        return None, None
    table = split(settings, journal.header.seed, journal.header.table).train
    budgets = journal.budgets
    tokens = response_tokens(table) if budgets[0].tokens else None
    tally, stage = Tally(len(table)), -1
    for batch in batches(follow(recorded_course(journal, table), journal), journal.header.batch, budgets, tokens):
        if batch.step >= steps:
            break
        if batch.stage.index > stage:
            stage = batch.stage.index
            tally.stage(batch.stage)
        tally.batch(batch.rows)
    exposure = Exposure.of(tally.visits, table)
    columns, domains = sorted_by(journal.header, table), domains_of(journal.header, table)
    return exposure, tally.summary(table, columns, journal.header.seed, domains)
