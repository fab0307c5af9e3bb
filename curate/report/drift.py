"""How a score column differs between two tables: its values of the same rows, and its distribution over all of them.

The tests are scipy's. They compare rows that stand in one table alone with the rows of the other, which are other rows,
as the tests suppose: of two whole tables that have most rows in common, no test would notice what is new. Of rows that
are in both, each with two values, the signed-rank test says whether these moved to one side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from curricle.curate.report.distributions import histogram_edges, is_category, is_numeric, quantiles, rank_correlations
from curricle.schemas.columns import ScoreColumn
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Kind = Literal["number", "category", "other"]

CATEGORIES = 50
"""A column of texts with more of them is no category."""
EXACT = 1_000_000
"""Pairs of values up to which the distribution of the Kolmogorov-Smirnov statistic is counted and not approached."""


@dataclass(frozen=True)
class RowMatch:
    """Row numbers: ``both`` (pairs, 2), of the same examples in the old table and in the new one; and the rows that one
    of them has alone.
    """

    both: NDArray[np.int64]
    old: NDArray[np.int64]
    new: NDArray[np.int64]


@dataclass(frozen=True)
class SampleTest:
    """A test of scipy: which rows it compares, how many values they have, the statistic, and its p-value."""

    name: str
    rows: str
    sizes: tuple[int, int]
    statistic: float
    p: float


@dataclass(frozen=True)
class Side:
    """A column in one table. ``quantiles`` by per cent; ``shares`` of each category."""

    rows: int
    nulls: int
    not_finite: int = 0
    mean: float | None = None
    quantiles: Mapping[int, float] | None = None
    shares: Mapping[str, float] | None = None

    @property
    def empty_share(self) -> float:
        """Which share of the rows has no value, or none that is finite."""
        return (self.nulls + self.not_finite) / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Paired:
    """The rows that are in both tables, and how many have another value now.

    Of numbers also the mean and the largest change, Spearman's rho of the two values (None where it is not defined),
    and the signed-rank test of the changes.
    """

    rows: int
    changed: int
    mean: float | None = None
    largest: float | None = None
    spearman: float | None = None
    test: SampleTest | None = None


@dataclass(frozen=True)
class Drift:
    """One column in two tables.

    ``distance``: how far apart the two distributions are, from 0 to 1, over all rows that have a value: the largest
    difference of their cumulative shares (the Kolmogorov-Smirnov statistic), of categories the total variation. None
    where a table has no value. ``test``: whether rows that one table has alone are as those of the other.
    ``edges`` and ``counts`` of both are a histogram, of numbers.
    """

    column: ScoreColumn
    kind: Kind
    old: Side
    new: Side
    paired: Paired
    distance: float | None = None
    test: SampleTest | None = None
    edges: Sequence[float] = ()
    log: bool = False
    counts: tuple[Sequence[int], Sequence[int]] = ((), ())

    @property
    def drift(self) -> float:
        """From 0 to 1: the distance, or how much the share of rows without a value differs, whichever is more. 1 where
        the new table has no row any more.
        """
        if self.old.rows and not self.new.rows:
            return 1.0
        return max(self.distance or 0.0, abs(self.old.empty_share - self.new.empty_share))

    @property
    def disagreement(self) -> float:
        """From 0 to 2: how far the order of the rows in both differs, as one less Spearman's rho; of categories, which
        share of them has another one.
        """
        if self.kind == "category":
            return self.paired.changed / max(1, self.paired.rows)
        return 0.0 if self.paired.spearman is None else 1 - self.paired.spearman

    @property
    def is_same(self) -> bool:
        """Whether nothing differs: not even the value of a single row."""
        return not self.paired.changed and not self.drift


def drift(column: ScoreColumn, old: pl.Series, new: pl.Series, rows: RowMatch) -> Drift:
    """Compare a column of the old table with that of the new one. What is no number and no category is compared by row
    alone: give its hashes.
    """
    changed = int(old.gather(rows.both[:, 0]).ne_missing(new.gather(rows.both[:, 1])).sum())
    if is_numeric(column) and not is_category(column):
        return _of_numbers(column, old, new, rows, changed)
    sides = Side(len(old), old.null_count()), Side(len(new), new.null_count())
    paired = Paired(len(rows.both), changed)
    if is_category(column):
        texts = old.cast(pl.String), new.cast(pl.String)
        if pl.concat([text.unique() for text in texts]).n_unique() <= CATEGORIES:
            return _of_categories(column, *texts, rows, paired)
    return Drift(column, "other", *sides, paired)


def _of_numbers(column: ScoreColumn, old: pl.Series, new: pl.Series, rows: RowMatch, changed: int) -> Drift:
    from scipy import stats

    before, after = _numbers(old), _numbers(new)
    drawn = _present(before), _present(after)
    sides = _side(old, drawn[0]), _side(new, drawn[1])
    first, second = before[rows.both[:, 0]], after[rows.both[:, 1]]
    paired = _paired(first, second, len(rows.both), changed)
    if not all(map(len, drawn)):
        return Drift(column, "number", *sides, paired)
    edges, log = histogram_edges(np.sort(np.concatenate(drawn)), whole=pa.types.is_integer(column.type))
    counts = [np.histogram(values, edges)[0].tolist() for values in drawn]
    distance = float(stats.ks_2samp(*drawn, method="asymp").statistic)
    test = None
    for words, mine, others in _alone(rows, before, after):
        mine, others = _present(mine), _present(others)
        if len(mine) and len(others):
            method = "exact" if len(mine) * len(others) <= EXACT else "asymp"
            result = stats.ks_2samp(mine, others, method=method)
            sizes = len(mine), len(others)
            test = SampleTest("Kolmogorov-Smirnov", words, sizes, float(result.statistic), float(result.pvalue))
    return Drift(column, "number", *sides, paired, distance, test, edges.tolist(), log, (counts[0], counts[1]))


def _side(series: pl.Series, values: Numbers) -> Side:
    """``values``: those of the series that are finite."""
    nulls = series.null_count()
    if not len(values):
        return Side(len(series), nulls, len(series) - nulls)
    return Side(len(series), nulls, len(series) - nulls - len(values), float(values.mean()), quantiles(values))


def _alone(rows: RowMatch, old: Numbers, new: Numbers) -> list[tuple[str, Numbers, Numbers]]:
    """What is compared: the rows that one table has alone, with all rows of the other; nothing if there are none."""
    if len(rows.new):
        return [("only in NEW, against OLD", new[rows.new], old)]
    return [("only in OLD, against NEW", old[rows.old], new)] if len(rows.old) else []


def _paired(old: Numbers, new: Numbers, rows: int, changed: int) -> Paired:
    from scipy import stats

    if not changed:
        return Paired(rows, 0)
    present = np.isfinite(old) & np.isfinite(new)
    with np.errstate(over="ignore"):
        changes = (new - old)[present]
    changes = changes[np.isfinite(changes)]
    if not changes.any():
        return Paired(rows, changed)
    ((), (rho,)) = rank_correlations(pl.DataFrame({"old": old[present], "new": new[present]}))
    moved = changes[changes != 0]
    result = stats.wilcoxon(moved)
    test = SampleTest("Wilcoxon signed-rank", "in both", (len(moved), len(moved)), *map(float, result))
    return Paired(rows, changed, float(changes.mean()), float(changes[np.abs(changes).argmax()]), rho, test)


def _of_categories(column: ScoreColumn, old: pl.Series, new: pl.Series, rows: RowMatch, paired: Paired) -> Drift:
    from scipy import stats

    names = sorted({*old.drop_nulls().unique(), *new.drop_nulls().unique()})
    counts = [_counts(series, names) for series in (old, new)]
    shares = [count / count.sum() if count.sum() else count for count in counts]
    before, after = (dict(zip(names, share.tolist(), strict=True)) for share in shares)
    sides = Side(len(old), old.null_count(), shares=before), Side(len(new), new.null_count(), shares=after)
    if not all(count.sum() for count in counts):
        return Drift(column, "category", *sides, paired)
    distance, test = float(np.abs(shares[0] - shares[1]).sum() / 2), None
    alone = ("only in NEW, against OLD", new.gather(rows.new), old)
    if not len(rows.new):
        alone = ("only in OLD, against NEW", old.gather(rows.old), new)
    table = np.array([_counts(series, names) for series in alone[1:]])
    table = table[:, table.any(axis=0)]
    if table.any(axis=1).all() and table.shape[1] > 1:
        result = stats.chi2_contingency(table, correction=False)
        sizes = int(table[0].sum()), int(table[1].sum())
        test = SampleTest("chi-squared", alone[0], sizes, float(result.statistic), float(result.pvalue))
    return Drift(column, "category", *sides, paired, distance, test)


def _counts(series: pl.Series, names: Sequence[str]) -> Numbers:
    count = dict(series.drop_nulls().value_counts(name="rows").iter_rows())
    return np.array([count.get(name, 0) for name in names], np.float64)


def _numbers(series: pl.Series) -> Numbers:
    """As floats; NaN where there is no number."""
    return series.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _present(values: Numbers) -> Numbers:
    return values[np.isfinite(values)]
