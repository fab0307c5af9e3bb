"""The report shows every metric, fetches and runs nothing, and escapes the data set."""

import math
import random

import polars as pl
import pyarrow as pa
import pytest
from browser import Page, check_inert
from curricle.curate.report import report_page
from curricle.curate.report.chart import histogram
from curricle.curate.report.distributions import SHOWN, distribution, rank_correlations
from curricle.curate.report.rows import examples
from curricle.schemas.columns import ScoreColumn
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from table_maker import COLUMNS, HOSTILE, make_table, random_scores


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("table")
    make_table(
        directory, random_scores(400), rows=400, rejects=[("not JSON", "<script>alert(2)</script>")] * 3, parts=2
    )
    return report_page(directory)


def test_nothing_runs_and_nothing_is_fetched(page):
    check_inert(page)


def test_hostile_text_is_shown_as_text(page):
    assert "<script>alert" not in page
    assert "‮" not in Page(page).text
    shown = Page(page).text
    assert "alert(2)" in shown, "rejects are shown"


def test_every_metric_is_there(page):
    for column in COLUMNS:
        assert column.name in page


def test_same_table_same_page(tmp_path):
    make_table(tmp_path, random_scores(50), rows=50)
    assert report_page(tmp_path) == report_page(tmp_path)


@pytest.mark.parametrize("rows", [0, 1, 2, len(HOSTILE)])
def test_small_tables(tmp_path, rows):
    make_table(tmp_path, random_scores(rows), rows=rows)
    assert f"{rows} scored" in Page(report_page(tmp_path)).text.replace("\n", " ")


def test_constant_and_empty_columns(tmp_path):
    scores = random_scores(20) | {"loss": [1.5] * 20, "response_mtld": [None] * 20}
    make_table(tmp_path, scores, rows=20)
    assert "response_mtld" in report_page(tmp_path)


@pytest.mark.parametrize(
    "values",
    [[1.0, float("nan"), float("inf"), None, 2.0], [0.5] * 40 + [1e6], [1e300, 1e300], [1.0, 1.0 + 2.3e-16], [0.0] * 3],
)
def test_a_histogram_counts_every_finite_value(values):
    shape = distribution(COLUMNS[3], pl.Series(values, dtype=pl.Float64))
    assert sum(shape.counts) == shape.values
    assert shape.values + shape.nulls + shape.not_finite == len(values)
    assert "<svg" in histogram(shape, "h")


BIG = 2**63 - 1
EXTREMES = {
    "int64": (pa.int64(), [-BIG - 1, 0, BIG], 0),
    "large int64": (pa.int64(), [BIG - 1, BIG], BIG),
    "uint64": (pa.uint64(), [0, 3, 2**64 - 1], 3),
    "int8": (pa.int8(), [-128, 3, 127], 3),
    "float16": (pa.float16(), [1.0, 2.0, 65504.0], 2),
    "float32": (pa.float32(), [-3e38, 1e38, 3e38], 1e38),
    "wider than a float": (pa.float64(), [-1.7e308, 0.0, 1.7e308], 0),
    "a sum that is infinite": (pa.float64(), [1.6e308, 1.7e308], 1.65e308),
    "denormal": (pa.float64(), [5e-324, 1e-323, 1.5e-323], 1e-323),
    "both": (pa.float64(), [5e-324, 1.0, 1.7e308], 1),
    "zeros": (pa.float64(), [-0.0, 0.0, -0.0], 0),
    "one": (pa.float64(), [3.0], 3),
    "none": (pa.float64(), [None, math.nan, math.inf], None),
}


@pytest.mark.filterwarnings("error:Attempting to set identical")
@pytest.mark.parametrize("name", EXTREMES)
def test_numbers_at_the_ends_of_their_type(name, tmp_path):
    kind, values, median = EXTREMES[name]
    column = ScoreColumn("x", kind, "none", "extreme", "high").of_metric("foreign", 1, {})
    shape = distribution(column, pl.Series(pa.array(values, kind)))
    finite = [value for value in values if value is not None and math.isfinite(value)]
    assert shape.values + shape.nulls + shape.not_finite == len(values) and sum(shape.counts) == len(finite)
    assert shape.median == (None if median is None else pytest.approx(median, rel=1e-6))
    if finite:
        assert (shape.minimum, shape.maximum) == pytest.approx((min(finite), max(finite)), rel=1e-6)
        assert all(math.isfinite(edge) for edge in shape.edges)
    make_table(tmp_path, {"x": values}, [column], rows=len(values))
    page = report_page(tmp_path)
    assert ("too large to be drawn" in page) == bool(finite and max(map(abs, finite)) > 1e300)


def test_large_whole_numbers_are_no_ties():
    rising = pl.DataFrame({"one": [5, 2**62, 2**62 + 1, 2**62 + 2], "other": [0, 1, 2, 3]})
    assert rank_correlations(rising)[1] == [1.0]
    beside_floats = rising.with_columns(pl.Series("other", [0.0, 1.0, 3.0, 2.0]))
    assert rank_correlations(beside_floats)[1] == [pytest.approx(0.8)]
    assert rank_correlations(rising.with_columns(pl.col("one").cast(pl.Float64)))[1] != [1.0]  # as floats they would be


def test_rank_correlations_are_spearmans_over_complete_pairs():
    draw = random.Random(0)
    one = [draw.gauss(0, 1) for _ in range(60)]
    other = [None if i % 7 == 0 else x + draw.gauss(0, 1) for i, x in enumerate(one)]
    frame = pl.DataFrame({"one": one, "other": other, "falling": [-(x**3) for x in one]})
    (_, (rho,), (falling, _)) = rank_correlations(frame)
    expected = [(x, y) for x, y in zip(one, other, strict=True) if y is not None]
    assert rho == pytest.approx(spearmanr(*zip(*expected, strict=True)).statistic)
    assert falling == pytest.approx(-1)


def test_the_page_says_what_a_reward_gap_goes_along_with(page, tmp_path):
    scores = random_scores(200)
    draw = random.Random(1)
    scores["response_tokens"] = [3 * words for words in scores["response_words"]]
    scores["generated_tokens"] = [draw.randint(1, 400) for _ in range(200)]
    lengths = [
        ScoreColumn(name, pa.int32(), "tokens", "a length").of_metric("length", 1, {})
        for name in ("response_tokens", "generated_tokens")
    ]
    make_table(tmp_path, scores, [*COLUMNS, *lengths], rows=200)
    message = Page(report_page(tmp_path)).text
    longer = [one - other for one, other in zip(scores["response_tokens"], scores["generated_tokens"], strict=True)]
    others = {**scores, "response_tokens - generated_tokens": longer}
    for name in ("response_words", "response_tokens", "response_tokens - generated_tokens", "loss"):
        rho = spearmanr(scores["reward_gap"], others[name]).statistic
        assert f"{rho:.2f} with {name}".replace("-0", "−0") in message, name
    assert "A reward gap that merely follows" in Page(page).text  # with what is there
    make_table(tmp_path / "none", scores, [column for column in COLUMNS if column.name != "reward_gap"], rows=200)
    assert "reward gap" not in Page(report_page(tmp_path / "none")).text


def test_hard_end_decides_which_rows_are_hardest():
    for column, hardest in ((COLUMNS[3], 9.0), (COLUMNS[4], 0.0)):
        shape = distribution(column, pl.Series(range(10), dtype=pl.Float64))
        assert next(iter(shape.examples)) == "Hardest"
        assert shape.examples["Hardest"][0][1] == hardest


@given(st.lists(st.sampled_from([None, math.nan, math.inf, -0.0, 0.0, 1.5, 2.0, 3.0]), min_size=1, max_size=30))
def test_rows_that_are_shown_have_their_rank_and_ties_stay_in_table_order(values):
    shape = distribution(COLUMNS[3], pl.Series(values, dtype=pl.Float64))
    rows = [row for row, value in enumerate(values) if value is not None and math.isfinite(value)]
    rows.sort(key=lambda row: values[row])
    shown = {heading: [row for row, _ in pairs] for heading, pairs in shape.examples.items()}
    if shown:
        assert shown["Hardest"] == rows[: -SHOWN - 1 : -1]
        assert shown.get("Easiest", []) == rows[: max(0, len(rows) - SHOWN)][:SHOWN]
    assert all(values[row] == value for pairs in shape.examples.values() for row, value in pairs)
    assert bool(shown) == (len({values[row] for row in rows}) > 1)


def test_examples_are_the_rows_of_their_numbers(tmp_path):
    make_table(tmp_path, random_scores(3000), rows=3000, parts=3)
    parts = sorted(tmp_path.glob("data/*.parquet"))
    table = pl.concat(map(pl.read_parquet, parts))
    rows = [0, 999, 1000, 1023, 1024, 2047, 2999]
    shown = examples(parts, reversed(rows))
    assert list(shown) == rows
    assert [each.example_id for each in shown.values()] == table["example_id"].gather(rows).to_list()
