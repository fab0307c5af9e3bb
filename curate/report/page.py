"""The page that a person looks at first: ``report.html``."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
import pyarrow as pa
from curricle.curate.report.card import dataset_card
from curricle.curate.report.chart import histogram
from curricle.curate.report.distributions import (
    CORRELATION_ROWS,
    SEED,
    Distribution,
    distribution,
    gap_correlations,
    is_category,
    is_numeric,
    rank_correlations,
    sample_rows,
)
from curricle.curate.report.rows import SHOWN_KINDS, examples, note_kinds, rejects_by_reason, scan
from curricle.curate.report.selected import SelectionSummary, selection_summary
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.exchange import committed
from curricle.schemas.files import Location, files_in
from curricle.schemas.fingerprint import canonical_json
from curricle.schemas.manifest import Manifest, read_manifest
from curricle.schemas.pages.excerpts import ShownExample
from curricle.schemas.pages.page import rendered
from curricle.schemas.pages.text import leaves
from curricle.schemas.parquet import open_parquet
from curricle.schemas.table import score_columns, table_schema

SHOWN_CATEGORIES = 12


@dataclass(frozen=True)
class Report:
    """A finished table described: ``page``, self-contained HTML, and ``card``, Markdown as the hub reads it."""

    page: str
    card: str


def report_page(location: Location) -> str:
    """The page of ``report`` alone."""
    return report(location).page


def report(location: Location) -> Report:
    """The finished table at ``location`` described.

    The page fetches nothing and runs nothing; all text of the data set on it is escaped. The same table
    gives the same page. Raises UserError if the directory holds no finished table.
    """
    files = committed(files_in(location))
    manifest = read_manifest(files)
    with ExitStack() as opened:
        data = [opened.enter_context(files.local(part.path)) for part in manifest.data]
        rejects = [opened.enter_context(files.local(part.path)) for part in manifest.rejects]
        return _report(manifest, data, rejects, selection_summary(files, manifest))


@dataclass(frozen=True)
class Flag:
    """A column of truth values, counted."""

    column: ScoreColumn
    true: int
    false: int
    nulls: int


@dataclass(frozen=True)
class Category:
    """A column of names, and how many rows have each: the most frequent ``first``, then the others together."""

    column: ScoreColumn
    first: Sequence[tuple[str, int]]
    others: int
    other_rows: int
    nulls: int

    @classmethod
    def of(cls, column: ScoreColumn, series: pl.Series) -> "Category":
        counted = (
            series.drop_nulls()
            .cast(pl.String)
            .value_counts(name="rows")
            .sort("rows", series.name, descending=[True, False])
        )
        first = counted.head(SHOWN_CATEGORIES).rows()
        rest = counted.slice(SHOWN_CATEGORIES)
        return cls(column, first, len(rest), int(rest["rows"].sum()), series.null_count())


@dataclass(frozen=True)
class ScoreSummary:
    """What the page says of the score columns."""

    distributions: Sequence[Distribution]
    flags: Sequence[Flag]
    skipped: Sequence[ScoreColumn]
    categories: Sequence["Category"]
    correlated: Sequence[str]
    correlations: Sequence[Sequence[float | None]]
    examples: dict[int, ShownExample]
    gap: Sequence[tuple[str, float | None]] = ()
    """Spearman's rho of the reward gap with the lengths, their difference and the loss, as far as the table has them.
    """


def _scores(
    table: pl.LazyFrame,
    data: Sequence[Path],
    columns: Sequence[ScoreColumn],
    rows: int,
    whole: pl.LazyFrame | None = None,
) -> ScoreSummary:
    """One column in memory at a time, and the sample that correlations are computed on.

    ``whole``: the table that these rows were selected from.
    """
    sampled = sample_rows(rows)
    distributions, flags, categories, sample = [], [], [], {}
    before = whole.collect_schema().names() if whole is not None else []
    for column in columns:
        if pa.types.is_boolean(column.type):
            series = table.select(column.name).collect().to_series()
            nulls = series.null_count()
            true = int(series.sum() or 0)
            flags.append(Flag(column, true, len(series) - nulls - true, nulls))
        elif is_category(column):
            categories.append(Category.of(column, table.select(column.name).collect().to_series()))
        elif is_numeric(column):
            series = table.select(column.name).collect().to_series()
            there = (
                whole.select(column.name).collect().to_series() if whole is not None and column.name in before else None
            )
            shape = distribution(column, series, there)
            distributions.append(shape)
            if shape.values and not shape.constant:
                sample[column.name] = series if sampled is None else series.gather(sampled)
    shown = [row for shape in distributions for group in shape.examples.values() for row, _ in group]
    return ScoreSummary(
        distributions,
        flags,
        [column for column in columns if not (is_numeric(column) or is_category(column))],
        categories,
        list(sample),
        rank_correlations(pl.DataFrame(sample)),
        examples(data, shown),
        gap_correlations(pl.DataFrame(sample)),
    )


def _report(
    manifest: Manifest, data: Sequence[Path], rejected: Sequence[Path], selection: SelectionSummary | None
) -> Report:
    scores = ScoreSummary([], [], [], [], [], [], {})
    notes: list[tuple[str, int]] = []
    schema = table_schema((), manifest.fingerprint)
    if data:
        table = scan(data)
        with open_parquet(data[0]) as parquet:
            schema = parquet.schema_arrow
        columns = list(score_columns(schema).values())
        whole = scan(selection.parts) if selection and selection.parts else None
        scores = _scores(table, data, columns, manifest.total.scored, whole)
        notes = note_kinds(table)
    rejects = rejects_by_reason(scan(rejected)) if rejected else []
    shown: dict[str, Any] = {
        "title": _title(manifest),
        "manifest": manifest,
        "selection": selection,
        "columns": _columns(manifest.identity),
        "scores": scores,
        "histograms": {
            shape.column.name: histogram(shape, f"h{number}")
            for number, shape in enumerate(scores.distributions)
            if shape.drawn
        },
        "sample": CORRELATION_ROWS if manifest.total.scored > CORRELATION_ROWS else None,
        "seed": SEED,
        "notes": notes,
        "rejects": rejects,
        "kinds": SHOWN_KINDS,
    }
    page = rendered("curricle.curate.report", "report.html.j2", shown)
    return Report(page, dataset_card(manifest, schema, scores.distributions))


def _columns(identity: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What made the columns: those that are made alike together, by their names, and each leaf of what made them."""
    columns, rest = dict(identity), []
    if isinstance(identity.get("columns"), Mapping):
        columns = dict(identity["columns"])
        rest = [("the table", [*leaves({name: each for name, each in identity.items() if name != "columns"})])]
    alike: dict[str, list[str]] = {}
    for name, each in columns.items():
        about = (
            {key: value for key, value in each.items() if key != "column"} if isinstance(each, Mapping) else {"": each}
        )
        alike.setdefault(canonical_json(about), []).append(name)
    groups = [(", ".join(names), [*leaves(json.loads(about))]) for about, names in alike.items()]
    return groups + [each for each in rest if each[1]]


def _title(manifest: Manifest) -> str:
    if len(manifest.sources) == 1:
        return PurePosixPath(manifest.sources[0].source).name or manifest.sources[0].source
    return f"{len(manifest.sources):,} files"
