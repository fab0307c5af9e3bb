"""A column of cluster numbers for a finished table, from its vectors."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from curricle.curate.embedding.clustering import LIBRARY, Clusters, central_rows, k_means, summary
from curricle.curate.embedding.topics import CHARACTERS, distinctive_words
from curricle.curate.report.clusters import ShownCluster, clusters_page
from curricle.curate.selection.representative import matrix
from curricle.pipelines.settings.cluster import ClusterSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.extend import Addition, extend, extending
from curricle.pipelines.tables.leave_out import left_out
from curricle.pipelines.tables.phase import enter
from curricle.pipelines.tables.provenance import provenance
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.wording import counted
from curricle.schemas.exchange import NEXT
from curricle.schemas.manifest import Manifest, read_manifest
from curricle.schemas.pages.excerpts import ShownExample
from curricle.schemas.table import NOTES_FIELD
from numpy.typing import NDArray

log = logging.getLogger("curricle")

COLUMN = "cluster"
FIGURES, PAGE = "clusters.json", "clusters.html"
SHOWN, EXAMPLES, READ = 100, 3, 50
"""Clusters on the page, rows of each, and rows near its centre whose words are read."""
MOST_WHOLE = 100_000
"""Rows up to which all rows are looked at in every iteration, if nothing else is said."""


def cluster(settings: ClusterSettings) -> Manifest:
    """Write the table with the column, ``clusters.json`` and ``clusters.html``, unless they are there."""
    table, directory = TableReader(settings.table), OutputDirectory(settings.output)
    out = left_out(table, settings.leave_out)
    params = _params(settings, table) | out.identity
    column = ScoreColumn(COLUMN, pa.int32(), "cluster number", f"k-means cluster of {settings.by}, from 0")
    by = table.scores.get(settings.by)
    signed = column.of_metric(COLUMN, 1, params, {"by": by.fingerprint} if by else None)
    recipe = {COLUMN: params}
    with extending(table, settings.output, recipe, settings.overwrite, (COLUMN,)) as run:
        if run:
            labels = _labels(table, directory, run, params, out.mask)
            addition = Addition([signed], lambda: _rows(table, labels, settings.by, out.mask))
            origin = provenance("cluster", settings, ["scikit-learn", "numpy"], before=[table.manifest])
            extend(table, directory, run, addition, origin)
    return read_manifest(directory.storage)


def _params(settings: ClusterSettings, table: TableReader) -> dict[str, Any]:
    rows = table.manifest.total.scored
    if settings.by not in table.schema.names:
        found = f"there is no column {settings.by!r}"
        vectors = f"`curricle add {table.path} --metrics embedding` adds vectors"
        raise UsageError(found, where=table.path, remedy=f"{vectors}; {nearest(settings.by, table.schema.names)}")
    if settings.k > rows:
        found = f"{settings.k:,} clusters of {rows:,} rows"
        raise UsageError(found, where="--k", remedy=f"give --k {rows} or less")
    chosen = settings.algorithm or ("kmeans" if rows <= MOST_WHOLE else "minibatch")
    return {"by": settings.by, "k": settings.k, "algorithm": chosen, "seed": settings.seed, "library": LIBRARY}


def _labels(
    table: TableReader, directory: OutputDirectory, run: str, params: dict[str, Any], without: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """The cluster of each row, -1 without a vector; what there is to say of them is written down."""
    enter(directory, run, "reading the vectors", records=table.manifest.total.scored)
    vectors, present = read_vectors(table, params["by"], without)
    learned = int((present & ~without).sum())
    if learned < params["k"]:
        raise UserError(
            f"{params['k']:,} clusters of {learned:,} rows with a vector",
            where=table.path,
            remedy=f"give --k {learned} or less, and --overwrite",
        )
    enter(directory, run, f"fitting {params['k']:,} clusters to {counted(learned, 'vector')}", records=learned)
    clusters = k_means(vectors, params["k"], params["algorithm"], params["seed"], learned)
    rows = np.concatenate([np.flatnonzero(present & ~without), np.flatnonzero(present & without)])
    shown = _largest(table, clusters, rows)
    figures = params | {"rows_without_vector": len(present) - len(vectors)} | summary(clusters)
    if out := figures.pop("left_out", None):
        figures |= {"rows_left_out": out["rows"]}
    figures["about"] = [
        {
            "cluster": each.number,
            "rows": each.rows,
            "words": each.words,
            "examples": [example.example_id for example in each.examples],
        }
        for each in shown
    ]
    directory.write_json(f"{NEXT}/{FIGURES}", figures)
    directory.write_text(f"{NEXT}/{PAGE}", clusters_page(figures, shown))
    log.info(
        "%d rows in %d clusters of %d to %d rows, median %g, %d empty; silhouette %s over %d rows",
        *(figures[name] for name in ("rows", "clusters", "smallest", "largest", "median", "empty")),
        "undefined" if clusters.silhouette is None else f"{clusters.silhouette:.3f}",
        clusters.sample,
    )
    labels = np.full(len(present), -1, np.int32)
    labels[rows] = clusters.labels
    return labels


def _largest(table: TableReader, clusters: Clusters, rows: NDArray[np.int64]) -> list[ShownCluster]:
    """The largest clusters, with what the rows nearest to their centres say. ``rows``: of the table, as clustered."""
    numbers = [int(each) for each in np.argsort(-clusters.sizes, kind="stable")[:SHOWN] if clusters.sizes[each]]
    central = {number: rows[central_rows(clusters, number, READ)] for number in numbers}
    wanted = np.sort(np.concatenate([*central.values()]))
    texts: dict[int, str] = {}
    examples: dict[int, ShownExample] = {}
    named = {int(row) for each in central.values() for row in each[:EXAMPLES]}
    for indices, part in table.rows(wanted, ["example_id", "source", "source_position", "messages"]):
        for index, row in zip(indices.tolist(), part.to_pylist(), strict=True):
            texts[index] = "\n".join(turn["content"] or "" for turn in row["messages"] or [])[:CHARACTERS]
            if index in named:
                examples[index] = ShownExample.of(row)
    words = distinctive_words([[texts[int(row)] for row in each] for each in central.values()])
    return [
        ShownCluster(
            number, int(clusters.sizes[number]), own, [examples[int(row)] for row in central[number][:EXAMPLES]]
        )
        for number, own in zip(numbers, words, strict=True)
    ]


def read_vectors(
    table: TableReader, name: str, last: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The vectors that there are, of shape (rows with one, dimensions), and which rows have one.

    Those of the rows that ``last`` marks come after the others. They stand in memory once, beside one row group.
    UsageError if the column holds something else.
    """
    rows, begin = table.manifest.total.scored, int((~last).sum())
    present = np.zeros(rows, np.bool_)
    vectors, start, filled, behind = np.empty((0, 0), np.float32), 0, 0, begin
    for group in table.groups([name]):
        column = pl.Series(name, group[name])
        there = column.is_not_null().to_numpy()
        present[start : start + len(column)] = there
        read, after = matrix(column.drop_nulls()), last[start : start + len(column)][there]
        if len(read) and not vectors.size:
            vectors = np.empty((rows, read.shape[1]), np.float32)
        if len(read) and read.shape[1] != vectors.shape[1]:
            raise UsageError(
                f"column {name!r} holds vectors of several lengths", where=table.path, remedy="name another"
            )
        many = int(after.sum())
        if len(read):
            vectors[filled : filled + len(read) - many] = read[~after]
            vectors[behind : behind + many] = read[after]
        start, filled, behind = start + len(column), filled + len(read) - many, behind + many
    total = filled + behind - begin
    vectors[filled:total] = vectors[begin:behind].copy()
    return vectors[:total], present


def _rows(table: TableReader, labels: NDArray[np.int32], by: str, without: NDArray[np.bool_]) -> Iterator[pa.Table]:
    start = 0
    for group in table.groups(["example_id"]):
        mine, out = (each[start : start + group.num_rows] for each in (labels, without))
        start += group.num_rows
        notes = [_note(label, by, left) for label, left in zip(mine.tolist(), out.tolist(), strict=True)]
        numbers = pa.array(mine, mask=mine < 0)
        yield group.append_column(COLUMN, numbers).append_column(NOTES_FIELD.name, pa.array(notes, NOTES_FIELD.type))


def _note(label: int, by: str, left_out: bool) -> list[str] | None:
    if label < 0:
        return [f"{COLUMN}: there is no {by}"]
    return [f"{COLUMN}: of the nearest centre, in which this row has no part"] if left_out else None
