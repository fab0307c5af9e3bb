"""What a run left behind, read back: its metrics, its journal, and which rows it visited how often."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from curricle.schemas.common.config import build
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.plugins import is_file
from curricle.train.curricula.base import Decision
from curricle.train.data.holdout import split
from curricle.train.ordering.batches import Budget, batches, response_tokens
from curricle.train.ordering.journal import Journal, StageRecord, follow, read_journal, recorded_course
from curricle.train.records.metrics import read_metrics
from curricle.train.records.run_json import RUN, read_description
from curricle.train.settings import RunSettings


@dataclass(frozen=True)
class Exposure:
    """``times[k]`` rows were visited k times. ``never`` are the ids of some that were not, out of ``times[0]``."""

    times: dict[int, int]
    never: list[str]


@dataclass(frozen=True)
class History:
    """A run as its directory records it. ``lines`` are the metrics by kind.

    ``exposure`` is None without the table, and where the curriculum is a plug-in: reading about a run runs no code that
    came with it.
    """

    settings: dict[str, Any]
    lines: dict[str, list[dict[str, Any]]]
    journal: Journal
    exposure: Exposure | None

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
        raise UsageError("there is no run here", where=str(run), remedy="name the --output of a run")
    metrics = read_metrics(run)
    if not any(line["kind"] == "train" for line in metrics):
        raise UsageError("the run has no metrics yet", where=str(run), remedy="let it train first")
    journal = read_journal(run / "journal.jsonl")
    lines = {kind: [line for line in metrics if line["kind"] == kind] for kind in ("train", "eval", "probe")}
    return History(about["settings"], lines, journal, _exposure(about["settings"], journal, lines["train"][-1]["step"]))


def _exposure(values: dict[str, Any], journal: Journal, steps: int) -> Exposure | None:
    """How often each row was visited in the first ``steps`` steps, derived again from the table and the journal."""
    settings = build(RunSettings, values, where=RUN)
    if not settings.data.exists() or journal.header.plugin or is_file(journal.header.curriculum):
        return None
    table = split(settings, journal.header.seed).train
    budget = Budget(**journal.header.budget)
    tokens = response_tokens(table) if budget.tokens else None
    times = np.zeros(len(table), np.int64)
    for batch in batches(follow(recorded_course(journal, table), journal), journal.header.batch, budget, tokens):
        if batch.step >= steps:
            break
        np.add.at(times, batch.rows, 1)
    never = [table.ids[row].tobytes().hex() for row in np.flatnonzero(times == 0)[:20]]
    return Exposure(dict(sorted(Counter(times.tolist()).items())), never)
