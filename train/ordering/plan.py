"""What a curriculum would visit, or what a journal did visit: a Parquet of rows and a picture, without a model."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from curricle.schemas.common.config import build
from curricle.schemas.common.disk import check_writable, refuse_links, replacing
from curricle.schemas.common.errors import UsageError
from curricle.train.data.holdout import Split, split
from curricle.train.data.table import Rows, Table
from curricle.train.ordering.batches import GlobalBatch
from curricle.train.ordering.exposure import Exposure
from curricle.train.ordering.journal import JOURNAL, Header, Journal, read_journal
from curricle.train.ordering.order import (
    course_of,
    cut,
    described,
    domains_of,
    global_batches,
    header_of,
    remarks,
    sorted_by,
)
from curricle.train.ordering.rehearsal import Rehearsal
from curricle.train.ordering.summary import Summary, Tally
from curricle.train.records.run_json import RUN, read_description
from curricle.train.settings import PlanSettings, RunSettings
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAN_FILE = "plan.parquet"
BATCHES_A_GROUP = 4096
POINTS, FEW = 400, 80  # along the order, of the picture and of what a page shows at any width

PLAN = pa.schema(
    [
        pa.field("step", pa.int64(), metadata={"description": "optimizer step, from 0"}),
        pa.field("position", pa.int32(), metadata={"description": "index in the global batch, from 0"}),
        pa.field("row", pa.int64(), metadata={"description": "row of the table as it lies in its files, from 0"}),
        pa.field("example_id", pa.string(), metadata={"description": "the example's identity, 32 hex digits"}),
        pa.field("stage", pa.int32(), metadata={"description": "stage of the curriculum, from 0"}),
        pa.field("choice", pa.string(), metadata={"description": "the perspective chosen; null if none was to choose"}),
    ]
)


@dataclass(frozen=True)
class DifficultyCurve:
    """Percentiles of difficulty along the order, all (points,): at which sample, the 10th percentile of the rows there,
    their mean and their 90th. NaN where none of them has a score.
    """

    at: NDArray[np.float64]
    low: NDArray[np.float64]
    mean: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """An order in figures. ``exposures[k]`` counts the rows that are visited k times.

    ``description``: what the curriculum does, in words. ``rehearsed``: it asks the student, and the losses of the table
    stood in for its answers; the order of a run follows its student. ``notes``: what a person should know of the table
    and of options that cannot matter. ``title``: which order it is. ``curves``: by column. ``choices``: which
    perspective is trained on from which sample to which. ``exposure``: with rows that are never visited.
    """

    parquet: Path
    picture: Path
    title: str
    steps: int
    stages: int
    samples: int
    exposures: list[int]
    summary: Summary
    description: str
    rehearsed: bool
    curves: Mapping[str, DifficultyCurve]
    choices: Sequence[tuple[str, float, float]]
    exposure: Exposure
    notes: tuple[str, ...] = ()


def plan_of(settings: PlanSettings) -> Plan:
    """Write the plan that settings ask for: of a journal, or of a curriculum over the rows that are not held out."""
    check_writable(settings.output)
    parts, order = rows_and_order(settings)
    return plan(parts.train, order, settings.output, settings.columns, settings.curriculum)


def rows_and_order(settings: PlanSettings) -> tuple[Split, Header | Journal]:
    """The rows that settings name, and what defines their order: of a journal the rows of its run.

    UsageError for what does not fit.
    """
    if settings.journal:
        path = settings.journal / JOURNAL if settings.journal.is_dir() else settings.journal
        journal, settings = read_journal(path), _with_rows_of_the_run(settings, path)
        return split(settings, journal.header.seed, journal.header.table), journal
    if settings.data is None:
        raise UsageError("--data is required", where="curricle-train plan", remedy="name a table, or a --journal")
    parts = split(settings, settings.seed)
    options, size = settings.curriculum_options, settings.batch.size
    return parts, header_of(parts.train, settings.curriculum, options, settings.seed, size, settings.budget)


def _with_rows_of_the_run(settings: PlanSettings, journal: Path) -> PlanSettings:
    """Table, joins and rows as the run had them that wrote a journal, where settings name no others."""
    runs = [journal.parent, *journal.absolute().parents[3:4]]  # its own, or that in a checkpoint
    about = next(filter(None, map(read_description, runs)), None)
    if about is None:
        if settings.data is None:
            raise UsageError(
                f"there is no {RUN} beside it, which says what the run was over",
                where=str(journal),
                remedy="give --data",
            )
        return settings
    run = build(RunSettings, about["settings"], where=RUN)
    absent = PlanSettings(output=settings.output)
    own = {
        name: getattr(run, name)
        for name in ("data", "join", "leave_out", "subset", "eval")
        if getattr(settings, name) == getattr(absent, name)
    }
    return replace(settings, **own)


def plan(
    table: Table, order: Header | Journal, output: str | Path, columns: Sequence[str] = (), curriculum: str = ""
) -> Plan:
    """Write ``plan.parquet`` and ``plan.png`` into a directory.

    ``order``: a header, for a curriculum, or a journal, for what a run did. Where a curriculum asks the student, the
    losses of the table stand in for its answers: a rehearsal.
    ``columns``: the difficulties in the picture; by default those that the curriculum sorts by, or the loss.
    ``curriculum``: what the user names, see ``recorded_course``.
    UsageError, before anything is written, if the table does not fit, or has no losses that could stand in.
    """
    header = replace(order.header, budget=asdict(order.budgets[-1])) if isinstance(order, Journal) else order
    rehearsal = None if isinstance(order, Journal) else Rehearsal(course_of(table, header), table)
    all_batches = cut(table, header, rehearsal.stages()) if rehearsal else global_batches(table, order, curriculum)
    ranks = {name: _percentiles(table, name, header.seed) for name in columns or sorted_by(header, table)}
    group = list(islice(all_batches, BATCHES_A_GROUP))
    if not group:
        raise UsageError("the order is empty", remedy="raise the budget, or name the journal of a run that has begun")
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    parquet, picture = directory / PLAN_FILE, directory / "plan.png"
    refuse_links(directory)
    visited: list[GlobalBatch] = []
    with replacing(parquet) as partial, pq.ParquetWriter(partial, PLAN, compression="zstd") as writer:
        while group:
            writer.write_table(_as_table(group, table))
            visited += group
            group = list(islice(all_batches, BATCHES_A_GROUP))
    rows = np.concatenate([batch.rows for batch in visited])
    tally = Tally(len(table))
    for stage in {batch.stage.index: batch.stage for batch in visited}.values():
        tally.stage(stage)
    tally.batch(rows)
    rehearsed = rehearsal is not None and rehearsal.needed
    title = f"{header.curriculum}, seed {header.seed}" + ", a rehearsal with the losses of the table" * rehearsed
    fine, coarse = (
        {name: _curve(rows, percentiles, points) for name, percentiles in ranks.items()} for points in (POINTS, FEW)
    )
    choices = [*_choices(visited)]
    with replacing(picture) as partial:
        _draw(fine, choices, len(rows), title).savefig(partial, dpi=120, format="png")
    return Plan(
        parquet,
        picture,
        title,
        steps=len(visited),
        stages=len({batch.stage.index for batch in visited}),
        samples=len(rows),
        exposures=np.bincount(tally.visits).tolist(),
        summary=tally.summary(table, [*ranks], header.seed, domains_of(header, table)),
        description="" if header.plugin else described(table, header),
        rehearsed=rehearsed,
        curves=coarse,
        choices=choices,
        exposure=Exposure.of(tally.visits, table),
        notes=(*table.notes, *(() if header.plugin else remarks(table, header))),
    )


def _percentiles(table: Table, column: str, seed: int) -> NDArray[np.float32]:
    """The percentile of each row in an order from easy to hard, in [0, 100]; NaN for rows that have no score."""
    order = table.order(column, seed)
    percentiles = np.full(len(table), np.nan, np.float32)
    percentiles[order] = np.linspace(0, 100, len(order), dtype=np.float32)
    return percentiles


def _as_table(group: Sequence[GlobalBatch], table: Table) -> pa.Table:
    sizes = [len(batch.rows) for batch in group]
    return columns_of_plan(
        table,
        np.concatenate([batch.rows for batch in group]),
        np.repeat([batch.step for batch in group], sizes),
        np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
        np.repeat(np.array([batch.stage.index for batch in group], np.int32), sizes),
        np.repeat(np.array([batch.stage.choice for batch in group], object), sizes).tolist(),
    )


def columns_of_plan(
    table: Table, rows: Rows, steps: Rows, positions: Rows, stages: Rows, choices: Sequence[str | None]
) -> pa.Table:
    """Visits of rows of a table in the columns of ``plan.parquet``; each argument has an entry a visit."""
    digits = table.ids[rows].tobytes().hex()
    ids = [digits[start : start + 32] for start in range(0, len(digits), 32)]
    columns = [steps, positions, table.origin[rows], ids, stages, choices]
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, PLAN, strict=True)], schema=PLAN)


def _curve(rows: Rows, percentiles: NDArray[np.float32], points: int) -> DifficultyCurve:
    edges = np.unique(np.linspace(0, len(rows), min(points, len(rows)) + 1).astype(np.int64))
    parts = [percentiles[rows[start:end]] for start, end in pairwise(edges)]
    return DifficultyCurve((edges[:-1] + edges[1:]) / 2, *np.array([_spread(part) for part in parts]).T)


def _choices(visited: Sequence[GlobalBatch]) -> Iterator[tuple[str, float, float]]:
    """Which perspective was chosen from which sample to which, where one was to choose."""
    start = end = 0
    for choice, batches in groupby(visited, key=lambda batch: batch.stage.choice):
        start, end = end, end + sum(len(batch.rows) for batch in batches)
        if choice:
            yield choice, float(start), float(end)


def _draw(
    curves: Mapping[str, DifficultyCurve], choices: Sequence[tuple[str, float, float]], samples: int, title: str
) -> "Figure":
    """Mean difficulty percentile over the order, with the middle 80 per cent, and below it what was chosen when."""
    from matplotlib.figure import Figure

    colours = {re.sub(":(high|low)$", "", name): f"C{index % 10}" for index, name in enumerate(curves)}
    chosen = list(dict.fromkeys([*colours, *(name for name, _, _ in choices)])) if choices else []
    figure = Figure(figsize=(9, 5 if chosen else 4), layout="constrained")
    axes = figure.subplots(2 if chosen else 1, 1, sharex=True, squeeze=False, height_ratios=[6, 1] if chosen else None)
    above = axes[0, 0]
    for name, curve in curves.items():
        above.plot(curve.at, curve.mean, label=name, linewidth=1.2)
        above.fill_between(curve.at, curve.low, curve.high, alpha=0.15, linewidth=0)
    above.set_title(title, loc="left")
    above.set(ylabel="difficulty percentile", ylim=(0, 100))
    if curves:
        figure.legend(loc="outside upper right", ncols=len(curves), frameon=False)
    if chosen:
        lanes = {name: lane for lane, name in enumerate(chosen)}
        for name, start, end in choices:
            axes[1, 0].barh(lanes[name], end - start, left=start, height=0.9, color=colours.get(name, "0.5"))
        axes[1, 0].set(yticks=range(len(chosen)), yticklabels=chosen, ylabel="chosen", ylim=(-0.6, len(chosen) - 0.4))
    axes[-1, 0].set(xlabel="samples, in the order of training", xlim=(0, samples))
    return figure


def _spread(percentiles: NDArray[np.float32]) -> tuple[float, float, float]:
    """10th percentile, mean and 90th percentile of the rows that have one; NaN if none has."""
    present = percentiles[~np.isnan(percentiles)]
    if not len(present):
        return np.nan, np.nan, np.nan
    low, high = np.percentile(present, [10, 90])
    return float(low), float(present.mean()), float(high)
