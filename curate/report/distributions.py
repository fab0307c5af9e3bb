"""What a report says of the score columns: distributions, rank correlations, and which rows to show."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import polars.selectors as selectors
import pyarrow as pa
from curricle.schemas.columns import ScoreColumn

BINS = 40
SHOWN = 3
CORRELATION_ROWS = 200_000
SEED = 0
LARGEST_DRAWN = 1e300
QUANTILES = (1, 5, 25, 50, 75, 95, 99)
"""Per cent of the rows that have at most that value."""
GAP, LENGTHS = "reward_gap", ("response_tokens", "generated_tokens")


@dataclass(frozen=True)
class WholeColumn:
    """The column in the table that rows were selected from: how many have a finite value, how many of them are between
    the edges of the selection's histogram, and the median.
    """

    values: int
    counts: Sequence[int]
    median: float


@dataclass(frozen=True)
class Distribution:
    """A numeric column: its histogram, and the rows at its ends and in its middle.

    ``counts`` are rows between neighbouring ``edges``. The range, the ``quantiles`` by per cent and the histogram are
    over finite values. ``whole``: the same of the table that the rows were selected from, over which the edges are.
    ``examples`` maps a heading to pairs of row number (in the whole table, from 0) and value.
    """

    column: ScoreColumn
    nulls: int
    not_finite: int
    values: int
    minimum: float | int | None
    quantiles: Mapping[int, float]
    maximum: float | int | None
    edges: Sequence[float]
    counts: Sequence[int]
    log: bool
    examples: Mapping[str, Sequence[tuple[int, float | int]]]
    whole: "WholeColumn | None" = None

    @property
    def median(self) -> float | None:
        return self.quantiles.get(50)

    @property
    def drawn(self) -> bool:
        """Whether the histogram has a picture: matplotlib's axes end before floats do."""
        return self.values > 0 and max(map(abs, self.edges)) < LARGEST_DRAWN

    @property
    def constant(self) -> bool:
        return self.values > 0 and self.minimum == self.maximum


def is_category(column: ScoreColumn) -> bool:
    """Whether the values are names: texts, truth values, or the numbers of clusters, which have no order."""
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return is_text or pa.types.is_boolean(column.type) or column.metric == "cluster"


def is_numeric(column: ScoreColumn) -> bool:
    return pa.types.is_integer(column.type) or pa.types.is_floating(column.type)


def distribution(column: ScoreColumn, series: pl.Series, whole: pl.Series | None = None) -> Distribution:
    """Describe one column; nulls, NaN and infinities are counted and left out of the rest.

    ``whole``: the column of the table that these rows were selected from.
    """
    if series.dtype.is_float():
        series = series.cast(pl.Float64)  # in a narrower one the width of a bin may be infinite
    ranked = _ranked(series)
    nulls = series.null_count()
    if not len(ranked):
        return Distribution(column, nulls, len(series) - nulls, 0, None, {}, None, (), (), False, {})
    before = ranked if whole is None else _ranked(whole.cast(series.dtype))
    edges, log = histogram_edges(before, whole=np.issubdtype(ranked.dtype, np.integer))
    counts, _ = np.histogram(ranked, edges)
    minimum, maximum = ranked[0].item(), ranked[-1].item()

    def example(rank: int) -> tuple[int, float | int]:
        """Row and value at a rank in ascending order; ties stay in table order: the same page every time."""
        value = ranked[rank].item()
        equal = (series == value).arg_true()
        return equal[int(rank - np.searchsorted(ranked, value))], value

    return Distribution(
        column,
        nulls,
        len(series) - nulls - len(ranked),
        len(ranked),
        minimum,
        quantiles(ranked),
        maximum,
        edges.tolist(),
        counts.tolist(),
        log,
        {heading: [example(rank) for rank in ranks] for heading, ranks in _shown(len(ranked), column.hard)}
        if minimum != maximum
        else {},
        None
        if whole is None
        else WholeColumn(len(before), np.histogram(before, edges)[0].tolist(), quantiles(before)[50]),
    )


def _ranked(series: pl.Series) -> np.ndarray:
    """The finite values, ascending."""
    finite = series.is_finite() if series.dtype.is_float() else series.is_not_null()
    return series.filter(finite).sort().to_numpy()


def quantiles(values: np.ndarray) -> dict[int, float]:
    """The value at each of ``QUANTILES`` of finite numbers, of which there is one at least: between two neighbours in
    proportion, as numpy has it by default, but finite however large they are.
    """
    ranked = np.sort(values)

    def at(percent: int) -> float:
        index, part = divmod((len(ranked) - 1) * percent, 100)
        low, high = ranked[index].item(), ranked[min(index + 1, len(ranked) - 1)].item()
        value = (low * (100 - part) + high * part) / 100
        return value if math.isfinite(value) else low * ((100 - part) / 100) + high * (part / 100)

    return {percent: at(percent) for percent in QUANTILES}


def _calls_for_log(ranked: np.ndarray) -> bool:
    """Whether nine values in ten would fill less than a third of a linear axis, and more of a logarithmic one."""
    if ranked[0] <= 0 or ranked[0] == ranked[-1]:
        return False
    low, high = np.quantile(ranked, [0.05, 0.95])
    linear = (high - low) / (ranked[-1] - ranked[0])
    first, last = np.log(ranked[[0, -1]])  # no quotient of the two, which may be infinite
    return bool(linear < 1 / 3 and np.log(high) - np.log(low) > linear * (last - first))


def histogram_edges(ranked: np.ndarray, whole: bool) -> tuple[np.ndarray, bool]:
    """The edges of a histogram's bins over ascending finite numbers, and whether its axis is logarithmic.

    ``whole``: they are whole numbers, so that a bin holds some, and none is empty by its width alone.
    """
    log = _calls_for_log(ranked)
    return _edges(ranked, log, whole), log


def _edges(ranked: np.ndarray, log: bool, whole: bool) -> np.ndarray:
    low, high = ranked[0], ranked[-1]
    if low == high:
        around = max(0.5, abs(float(low)) / 100)  # a fixed half would vanish beside a large number
        return np.array([low - around, low + around])
    if whole:
        low, high = int(low), int(high)
        if log:
            return np.unique(np.ceil(np.geomspace(low, high + 1, BINS + 1) - 1e-9)) - 0.5
        step = -(-(high - low + 1) // BINS)
        return np.arange(low, high + step + 1, step) - 0.5
    low, high = float(low), float(high)
    if log:
        edges = np.geomspace(low, high, BINS + 1)
    elif math.isfinite(high - low):
        edges = np.linspace(low, high, BINS + 1)
    else:
        edges = 2 * np.linspace(low / 2, high / 2, BINS + 1)
    edges[0], edges[-1] = low, high  # geomspace may round the ends inwards
    return edges


def _shown(count: int, hard: str | None) -> list[tuple[str, np.ndarray]]:
    """Headings and ranks in ascending order; a rank is shown once, however few there are."""
    top, bottom = ("Hardest", "Easiest") if hard == "high" else ("Easiest", "Hardest")
    if hard is None:
        top, bottom = "Highest", "Lowest"
    middle = np.arange(max(0, (count - SHOWN) // 2), count)[:SHOWN]
    ends = [(top, np.arange(count - 1, max(-1, count - 1 - SHOWN), -1)), (bottom, np.arange(min(SHOWN, count)))]
    first, last = ends if hard != "low" else ends[::-1]
    earlier: set[int] = set()
    groups = []
    for heading, ranks in (first, last, ("Median", middle)):
        fresh = np.array([rank for rank in ranks if rank not in earlier], dtype=np.int64)
        earlier |= {int(rank) for rank in fresh}
        groups.append((heading, fresh))
    hardest, easiest, median = groups
    return [group for group in (hardest, median, easiest) if len(group[1])]


def sample_rows(rows: int) -> np.ndarray | None:
    """The rows that correlations are computed on, in order; None for all of them."""
    if rows <= CORRELATION_ROWS:
        return None
    return np.sort(np.random.default_rng(SEED).choice(rows, CORRELATION_ROWS, replace=False))


def gap_correlations(frame: pl.DataFrame) -> list[tuple[str, float | None]]:
    """Spearman's rho of ``reward_gap`` with each column that it should not merely follow, and with how much longer the
    response is than the answer that was generated; none if the frame has no such column.
    """
    response, generated = LENGTHS
    if {*LENGTHS} <= {*frame.columns}:
        longer = pl.col(response).cast(pl.Float64) - pl.col(generated).cast(pl.Float64)
        frame = frame.with_columns(longer.alias(f"{response} - {generated}"))
    names = [
        name for name in ("response_words", *LENGTHS, f"{response} - {generated}", "loss") if name in frame.columns
    ]
    if GAP not in frame.columns:
        return []
    return [(name, rank_correlations(frame.select(GAP, name))[1][0]) for name in names]


def rank_correlations(frame: pl.DataFrame) -> list[list[float | None]]:
    """Spearman's rho of each pair of columns, over the rows where both are finite.

    Row i holds the correlations of column i with the columns before it. None where rho is not defined:
    a constant column, or fewer than three rows.
    """
    numbers = selectors.float()  # whole numbers stay what they are: as floats, large ones would be ties
    frame = frame.with_columns(pl.when(numbers.is_finite()).then(numbers))
    # sorted once: which values are equal, and which less, is the same in any of the rows
    columns = [each.to_numpy() for each in frame.select(pl.all().rank("dense").fill_null(0)).iter_columns()]
    return [[_spearman(one, other) for other in columns[:i]] for i, one in enumerate(columns)]


def _spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """Of two columns, each as the order of its values from 1, and 0 where there is none."""
    both = (one > 0) & (other > 0)
    if both.sum() < 3:
        return None
    ranks = [_average_ranks(each[both]) for each in (one, other)]
    if any(each.min() == each.max() for each in ranks):
        return None
    return float(np.clip(np.corrcoef(ranks)[0, 1], -1, 1))


def _average_ranks(order: np.ndarray) -> np.ndarray:
    """Ranks from 1, the same for equal values: 3, 7, 3 → 1.5, 3, 1.5."""
    counts = np.bincount(order)
    ranks: np.ndarray = (counts.cumsum() - (counts - 1) / 2)[order]
    return ranks
