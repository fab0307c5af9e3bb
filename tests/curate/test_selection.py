"""Rules of selection: what they keep, and that it depends on the rows alone."""

import math
from collections import Counter
from itertools import permutations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from curricle.curate.selection import derive
from curricle.curate.selection.derive import KEYS, Rules, Texts
from curricle.curate.selection.expression import parse
from curricle.curate.selection.near_duplicates import PERMUTATIONS, signatures
from curricle.curate.selection.order import sampling_keys, uniform
from curricle.curate.selection.recipe import Recipe
from curricle.curate.selection.representative import facility_location
from curricle.curate.selection.shares import equal, part_of, proportional
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError
from curricle.schemas.fingerprint import digest
from scipy.stats import lognorm

SCORES = {
    "loss": ScoreColumn("loss", pa.float64(), "nats", "loss", "high", "loss", 1),
    "lp_1": ScoreColumn("lp_1", pa.float64(), "share", "learned late is hard", "low", "lp", 1),
}


def frame(rows: int = 500, seed: int = 0) -> pl.DataFrame:
    """Scores with ties, nulls and NaN, clusters of unequal size with nulls, and every tenth conversation twice."""
    draw = np.random.default_rng(seed)
    unique = [digest(i) for i in range(rows)]
    return pl.DataFrame(
        {
            "example_id": [unique[i - 1] if i % 10 == 9 else unique[i] for i in range(rows)],
            "source": [f"{i % 3}.jsonl" for i in range(rows)],
            "source_position": list(range(rows)),
            "loss": [
                None if i % 23 == 0 else math.nan if i % 29 == 0 else round(draw.gamma(2), 1) for i in range(rows)
            ],
            "lp_1": draw.permutation(rows) / rows,
            "words": draw.integers(0, 40, rows).astype(np.int32),
            "embedding": [None if i % 19 == 0 else draw.normal(0, 1, 6).tolist() for i in range(rows)],
            "truncated": draw.random(rows) < 0.1,
            "kind": [None if i % 31 == 0 else f"kind {min(9, int(draw.gamma(2)))}" for i in range(rows)],
        }
    )


def select(table: pl.DataFrame, **recipe: object) -> pl.DataFrame:
    rules = Rules(Recipe(**recipe), table.columns, SCORES)  # type: ignore[arg-type]
    return table[rules.derive(table.select(rules.columns), texts(table)).rows]


def texts(table: pl.DataFrame) -> Texts:
    """A text of its own for each conversation, but for every seventh, which differs from the one before in one word."""

    def of(row: int) -> str:
        alike = table["source_position"][row] % 7 == 6
        draw = np.random.default_rng(table["source_position"][row] - alike)
        words = [f"word{word}" for word in draw.integers(0, 10_000, 60)]
        return " ".join([*words[:30], "other" if alike else words[30], *words[31:]])

    return lambda rows: ([(False, "Say it."), (True, of(int(row)))] for row in rows)


def keys(table: pl.DataFrame) -> set[tuple]:
    return set(table.select(KEYS).rows())


def step(table: pl.DataFrame, **recipe: object) -> dict:
    return Rules(Recipe(**recipe), table.columns, SCORES).derive(table, texts(table)).steps[-1]  # type: ignore[arg-type]


RECIPES = [
    {"take": "hard", "by": "loss", "count": 50},
    {"take": "easy", "by": "lp_1", "fraction": 0.1},
    {"take": "high", "by": "loss * words", "count": 33, "per": "kind"},
    {"take": "low", "by": "lp_1", "part": "1/20", "per": "kind"},
    {"take": "random", "count": 77, "seed": 5},
    {"take": "random", "fraction": 0.3, "per": "kind", "shares": "equal"},
    {"take": "sampled", "by": "loss", "count": 40, "temperature": 0.5, "seed": -3},
    {"take": "representative", "by": "embedding", "count": 20},
    {"take": "representative", "by": "embedding", "fraction": 0.1, "per": "kind"},
    {"near_duplicates": 0.8, "seed": 3},
    {"where": "0.5 <= loss < 2 and not truncated", "distinct": True, "take": "hard", "by": "lp_1", "part": "2/3"},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_order_of_the_rows_does_not_show(recipe):
    table = frame()
    expected = keys(select(table, **recipe))
    assert 0 < len(expected) < len(table)
    for seed in range(3):
        shuffled = table[np.random.default_rng(seed).permutation(len(table))]
        assert keys(select(shuffled, **recipe)) == expected


def test_the_ends_of_a_column():
    table, valid = frame(), frame().filter(pl.col("loss").is_finite())["loss"].sort()
    assert sorted(select(table, take="hard", by="loss", count=60)["loss"]) == valid[-60:].to_list()
    assert sorted(select(table, take="easy", by="loss", count=60)["loss"]) == valid[:60].to_list()
    assert sorted(select(table, take="hard", by="lp_1", count=60)["lp_1"]) == table["lp_1"].sort()[:60].to_list()
    assert sorted(select(table, take="high", by="-loss", count=60)["loss"]) == valid[:60].to_list()


def test_equal_values_are_told_apart_by_their_ids():
    table = frame().with_columns(loss=pl.lit(1.0))
    expected = table.sort("example_id", "source", "source_position")[:45]
    assert (
        select(table, take="hard", by="loss", count=45).sort("example_id", "source", "source_position").equals(expected)
    )


def test_what_has_no_value_is_never_taken_and_is_counted():
    table = frame()
    nulls = len(table) - table["loss"].is_finite().sum()
    everything = select(table, take="hard", by="loss", count=10_000)
    assert len(everything) == len(table) - nulls and everything["loss"].is_finite().all()
    result = step(table, take="hard", by="loss", count=10_000)
    assert (result["nulls"], result["asked"], result["left"]) == (nulls, 10_000, len(table) - nulls)
    assert result["lowest"] == everything["loss"].min() and result["highest"] == everything["loss"].max()
    condition = "loss < 1 or words >= 0"  # true of every row, but some have no loss
    assert len(select(table, where=condition)) == len(table) - nulls
    assert step(table, where=condition)["nulls"] == nulls
    in_strata = step(table, take="random", count=10_000, per="kind")
    assert in_strata["nulls_per"] == table["kind"].null_count()
    assert in_strata["left"] == len(table) - table["kind"].null_count()


def test_thirds_are_a_partition():
    table = frame(500)
    thirds = [select(table, take="low", by="lp_1", part=f"{i}/3")["lp_1"] for i in (1, 2, 3)]
    assert [len(third) for third in thirds] == [167, 167, 166]
    assert thirds[0].max() < thirds[1].min() and thirds[1].max() < thirds[2].min()


def test_parts_are_those_of_array_split():
    draw = np.random.default_rng(1)
    for rows, parts in zip(draw.integers(0, 300, 200), draw.integers(1, 120, 200), strict=True):
        expected = np.array_split(np.arange(rows), parts)
        assert [list(range(*part_of(int(rows), i, int(parts)))) for i in range(parts)] == [e.tolist() for e in expected]


def test_the_quota_of_small2large_has_its_published_sizes():
    """1 %, 3 %, 5 % and 10 % of Alpaca in 1,000 clusters are really 2.00, 3.96, 5.92 and 10.9 % (arXiv 2402.10430)."""
    quantiles = lognorm(0.45).ppf((np.arange(1000) + 0.5) / 1000)
    sizes = np.diff(np.round(np.cumsum(quantiles) / quantiles.sum() * 52_002), prepend=0).astype(int)
    table = pl.DataFrame({"cluster": np.repeat(np.arange(1000), sizes)}).with_columns(
        example_id=pl.int_range(pl.len()).cast(pl.String).str.zfill(32),
        source=pl.lit("alpaca"),
        source_position=pl.int_range(pl.len()),
        lp_1=pl.int_range(pl.len()) * 7919 % 52_002 / 52_002,
    )
    for percent, published in ((1, 2.00), (3, 3.96), (5, 5.92), (10, 10.9)):
        result = select(table, take="low", by="lp_1", part=f"1/{round(100 / percent)}", per="cluster")
        assert 100 * len(result) / 52_002 == pytest.approx(published, abs=0.04)
        assert len(select(table, take="low", by="lp_1", fraction=percent / 100, per="cluster")) == round(
            520.02 * percent
        )


def test_shares_by_largest_remainder_and_equal_ones():
    assert proportional([1, 1, 1], 2) == [1, 1, 0]
    assert proportional([50, 30, 20], 7) == [4, 2, 1]  # 3.5, 2.1 and 1.4: one row is left, for the largest remainder
    assert equal([100, 2, 100], 32) == [15, 2, 15]
    assert equal([5, 5, 5], 4) == [2, 1, 1]
    draw = np.random.default_rng(2)
    for _ in range(200):
        sizes = draw.integers(0, 40, draw.integers(1, 12)).tolist()
        budget = int(draw.integers(0, sum(sizes) + 1))
        by_size, level = proportional(sizes, budget), equal(sizes, budget)
        assert sum(by_size) == sum(level) == budget
        assert all(
            abs(share - budget * size / sum(sizes)) < 1 for share, size in zip(by_size, sizes, strict=True) if size
        )
        assert all(share <= size for share, size in zip(level, sizes, strict=True))
        unfilled = [share for share, size in zip(level, sizes, strict=True) if share < size]
        assert not unfilled or max(level) <= min(unfilled) + 1


def test_each_stratum_gives_its_own_best_rows():
    table = frame()
    result = select(table, take="hard", by="lp_1", count=60, per="kind")
    for (kind,), rows in result.group_by("kind"):
        best = table.filter(pl.col("kind") == kind)["lp_1"].sort()[: len(rows)]
        assert sorted(rows["lp_1"]) == best.to_list()
    assert len(result) == 60


@pytest.mark.parametrize("column", [pl.Series([3, 1, None, 3]), pl.Series([True, False, None, True])], ids=str)
def test_strata_of_any_plain_type(column):
    table = frame(4).with_columns(per=column)
    strata = step(table, take="random", part="1/1", per="per")["strata"]
    assert [(s["value"], s["rows"], s["taken"]) for s in strata] == [(column[1], 1, 1), (column[0], 2, 2)]


def test_distinct_keeps_the_first_of_each_conversation():
    table = frame()
    result = select(table, distinct=True)
    assert result["example_id"].is_unique().all() and len(result) == table["example_id"].n_unique() == 450
    first = table.sort("source", "source_position").unique("example_id", keep="first", maintain_order=True)
    assert keys(result) == keys(first)


def test_near_duplicates_keep_the_first_of_each_group():
    table = frame()
    result = select(table, near_duplicates=0.8)
    alike = table["source_position"] % 7 == 6
    # the source decides what comes first: of two texts that are alike, one may stand in a file before the other's
    pairs = table.with_columns(pair=table["source_position"] - alike.cast(pl.Int64))
    first = pairs.sort("source", "source_position").unique("pair", keep="first", maintain_order=True)
    assert keys(result) == keys(first) and len(first) < len(table)
    lines = step(table, near_duplicates=0.8)
    assert lines["groups"] == len(table) - len(first) and (lines["rows"], lines["left"]) == (len(table), len(first))
    assert select(table, near_duplicates=0.99).equals(table)  # one word in sixty is more than that


def test_texts_without_words_are_not_alike():
    table = frame(4)
    rules = Rules(Recipe(near_duplicates=0.9), table.columns, SCORES)
    texts = [[(False, one), (True, other)] for one, other in (("", "..."), (" ", ""), ("Yes", ""), ("yes!", "\n"))]
    selection = rules.derive(table.select(rules.columns), lambda rows: [texts[row] for row in rows])
    assert len(selection.rows) == 3 and {0, 1} < {*selection.rows.tolist()}
    assert selection.steps[0]["nulls"] == 2


def test_signatures_estimate_the_similarity():
    words = np.random.default_rng(4).permutation([f"word{row}" for row in range(4000)]).reshape(40, 100)
    for count, row in enumerate(words):
        other = [*row[: 2 * count], *(f"other{word}" for word in row[2 * count :])]
        one, two = ({*zip(text, text[1:], text[2:], strict=False)} for text in (row.tolist(), other))
        expected = len(one & two) / len(one | two)
        signed = signatures([[" ".join(row)], [" ".join(other)]], 2, seed=count)
        assert np.mean(signed[0] == signed[1]) == pytest.approx(expected, abs=4 * math.sqrt(0.25 / PERMUTATIONS))


def test_random_rows_are_random():
    table = frame(300).with_columns(example_id=pl.Series([digest(i) for i in range(300)]))
    counts: Counter[str] = Counter()
    for seed in range(200):
        counts.update(select(table, take="random", count=30, seed=seed)["example_id"])
    times = np.array([counts[identity] for identity in table["example_id"]])
    assert times.sum() == 6000
    assert np.sum((times - 20) ** 2 / 18) == pytest.approx(300, abs=5 * math.sqrt(600))  # chi-squared, variance of 0.1


def test_sampling_is_without_replacement_by_softmax():
    """Orders of three rows come as often as drawing one after the other by exp(value / temperature) gives them."""
    values, temperature, trials = np.array([0.0, 0.5, 1.5]), 0.7, 4000
    weights = np.exp(values / temperature)
    visits: Counter[tuple[int, ...]] = Counter()
    for trial in range(trials):
        ids = pl.Series([digest([trial, i]) for i in range(3)])
        visits[tuple(np.argsort(-sampling_keys(values, temperature, uniform(ids, 0))).tolist())] += 1
    for order in permutations(range(3)):
        left, expected = weights.sum(), 1.0
        for row in order:
            expected *= weights[row] / left
            left -= weights[row]
        assert visits[order] / trials == pytest.approx(expected, abs=4 * math.sqrt(expected / trials))


def test_facility_location_is_the_greedy_search():
    """What looking at every row again at every step finds."""
    vectors = np.random.default_rng(3).normal(0, 1, (90, 5)).astype(np.float32)
    vectors[40:60] = vectors[:20] * 3  # the same directions: equal gains
    unit = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    similar, nearest, expected = unit @ unit.T, np.full(90, -1.0), []
    for _ in range(30):
        gains = np.round(np.maximum(similar - nearest, 0).sum(axis=1), 9)
        gains[expected] = -1
        expected.append(int(gains.argmax()))
        nearest = np.maximum(nearest, similar[expected[-1]])
    assert facility_location(vectors, 30).tolist() == expected
    assert sorted(facility_location(vectors, 90)) == list(range(90))


def test_representative_rows_have_a_vector():
    table = frame()
    result = select(table, take="representative", by="embedding", count=10_000)
    assert len(result) == len(table) - table["embedding"].null_count() and result["embedding"].null_count() == 0


def test_too_many_rows_to_compare_are_refused(monkeypatch):
    monkeypatch.setattr(derive, "MOST_COMPARED", 100)
    with pytest.raises(UsageError, match="give --per"):
        select(frame(), take="representative", by="embedding", count=5)
    kinds = frame().filter(pl.col("kind").is_in(["kind 5", "kind 6"]))
    assert len(select(kinds, take="representative", by="embedding", count=5, per="kind")) == 5


CONDITIONS = {
    "loss < 1": pl.col("loss") < 1,
    "0.5 <= loss < 2": (pl.col("loss") >= 0.5) & (pl.col("loss") < 2),
    "not truncated": ~pl.col("truncated"),
    "truncated == false and words != 3": ~pl.col("truncated") & (pl.col("words") != 3),
    "kind == 'kind 2' or words / 2 > 15.5": (pl.col("kind") == "kind 2") | (pl.col("words") > 31),
    "abs(log(loss)) < 0.5 and -words <= -2": (pl.col("loss").log().abs() < 0.5) & (pl.col("words") >= 2),
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_mean_what_they_say(condition):
    present = frame().filter(pl.col("loss").is_finite(), pl.col("kind").is_not_null())
    expected = present.filter(CONDITIONS[condition])
    assert 0 < len(expected) < len(present)
    assert select(present, where=condition).equals(expected)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "loss.real < 1",
        "loss ** 9 < 1",
        "[loss][0]",
        "(lambda: loss)() < 1",
        "f'{loss}' == 'a'",
        "loss in (1, 2)",
        "abs(loss, 1) < 2",
        "eval(loss) < 1",
        "loss < 1; loss",
        "loss < ",
        "1 < 2",
        "loss",
        "loss < 'a'",
        "loss < 1" + "0" * 500,
        "(" * 400 + "loss" + ")" * 400,
        "loss < 1 " * 500,
        "\0loss < 1",
    ],
    ids=lambda text: text[:20],
)
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError) as error:
        select(frame(50), where=text)
    assert error.value.remedy


@pytest.mark.parametrize(
    ("recipe", "texts"),
    [
        ({}, "no rule says which rows"),
        ({"take": "hard", "by": "los", "count": 3}, "did you mean 'loss'"),
        ({"take": "hard", "by": "words", "count": 3}, "--take high or --take low"),
        ({"take": "hard", "by": "loss"}, "--take hard needs a number of rows"),
        ({"take": "hard", "by": "loss", "count": 3, "part": "1/3"}, "--count and --part each say how many"),
        ({"count": 3}, "--count says how many rows, and nothing says which"),
        ({"take": "hard", "count": 3}, "add --by and a column of numbers"),
        (
            {"take": "random", "by": "loss", "count": 3},
            "it is for --take hard, easy",
        ),
        ({"take": "hard", "by": "loss", "count": 3, "seed": 1}, "--seed 1 would change nothing"),
        ({"take": "random", "count": 3, "shares": "equal"}, "would change nothing here: it is for --per"),
        ({"take": "random", "count": 3, "per": "kin"}, "did you mean 'kind'"),
        ({"take": "random", "count": 3, "per": "loss"}, "name categories"),
        ({"take": "random", "part": "4/3"}, "1 <= I <= K"),
        ({"near_duplicates": 1.0}, "0.5 to 0.99"),
        ({"distinct": True, "near_duplicates_of": "prompt"}, "it is for --near-duplicates"),
        ({"take": "random", "fraction": 1.5}, "above 0 to 1"),
        ({"take": "sampled", "by": "loss", "count": 1, "temperature": 0}, "above 0"),
        ({"take": "high", "by": "kind", "count": 3}, "a number"),
        ({"take": "representative", "by": "kind", "count": 3}, "name vectors"),
        ({"take": "representative", "by": "embeding", "count": 3}, "did you mean 'embedding'"),
        ({"take": "representative", "by": "embedding", "part": "1/3"}, "--part 1/3 would change nothing"),
    ],
    ids=str,
)
def test_wrong_recipes(recipe, texts):
    with pytest.raises(UsageError, match=texts):
        select(frame(50), **recipe)


def test_one_row_and_none():
    table = frame(1).with_columns(loss=pl.lit(1.0))
    assert len(select(table, take="hard", by="loss", fraction=1.0, per="kind")) == 0  # its kind is null
    assert len(select(table, take="hard", by="loss", count=1)) == 1
    assert len(select(table, where="loss > 5", take="random", count=1)) == 0


WHOLE = pl.DataFrame(
    {
        "i": pl.Series([100_000, 3, -5], dtype=pl.Int32),
        "b": pl.Series([-128, 1, 2], dtype=pl.Int8),
        "u": pl.Series([0, 2, 255], dtype=pl.UInt8),
        "w": pl.Series([2**64 - 1, 0, 1], dtype=pl.UInt64),
        "big": pl.Series([2**62, 2**62 + 1, -(2**63)], dtype=pl.Int64),
        "f": pl.Series([1e30, 0.1, 2.0], dtype=pl.Float32),
        "x": [0.0, -1.0, 2.0],
        "s": ["5", "a", "b"],
    }
)
NONE = math.nan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i * i", [1e10, 9, 25]),
        ("i * i * i", [1e15, 27, -125]),
        ("u - 3", [-3, -1, 252]),
        ("-u", [0, -2, -255]),
        ("u * 2", [0, 4, 510]),
        ("w + 1", [2.0**64, 1, 2]),
        ("-b", [128, -1, -2]),
        ("abs(b)", [128, 1, 2]),
        ("big * 4", [2.0**64, 2.0**64, -(2.0**65)]),
        ("100000 * 100000 + i", [1e10 + 1e5, 1e10 + 3, 1e10 - 5]),
        ("f * f", [float(np.float32(1e30)) ** 2, float(np.float32(0.1)) ** 2, 4]),
        ("x / x", [NONE, 1, 1]),
        ("log(x)", [NONE, NONE, math.log(2)]),
        ("log(x) - log(x)", [NONE, NONE, 0]),
    ],
)
def test_what_is_computed_does_not_wrap_around(text, expected):
    assert parse(text, WHOLE.columns).numbers(WHOLE) == pytest.approx(expected, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("log(x) > 1", [None, None, False]),  # the logarithm of 0, and of a negative number
        ("not (log(x) > 1)", [None, None, True]),
        ("1 / x > 1 or x == 0", [True, False, False]),
        ("x / x > 2", [None, False, False]),
        ("w > -1", [True, True, True]),
        ("u >= -1 and u != -1", [True, True, True]),
        ("u - 3 < 0", [True, True, False]),
        ("i > 100000 * 100000", [False, False, False]),
        ("i < 1" + "0" * 60, [True, True, True]),
        ("big == 4611686018427387905", [False, True, False]),
        ("f > 1", [True, False, True]),
        ("s == '5'", [True, False, False]),
    ],
)
def test_a_condition_on_what_is_no_number_has_no_answer(text, expected):
    assert parse(text, WHOLE.columns).mask(WHOLE).to_list() == expected


@pytest.mark.parametrize("text", ["s * 2", "s + s", "-s", "abs(s)", "s == 5"])
def test_texts_are_not_computed_with(text):
    with pytest.raises(UsageError, match="cannot be computed"):
        parse(text, WHOLE.columns).mask(WHOLE)


def test_a_temperature_near_0_takes_the_top():
    table = frame()
    by_value = keys(select(table, take="high", by="lp_1", count=40))
    assert keys(select(table, take="sampled", by="lp_1", count=40, temperature=1e-320)) == by_value
    assert keys(select(table, take="sampled", by="lp_1 * 1e300", count=40, temperature=1e-10)) == by_value


@pytest.mark.parametrize("take", ["high", "low"])
def test_large_whole_numbers_are_told_apart(take):
    """As floats 2^62 and 2^62 + 100 are one number, and the ids would decide."""
    indices = np.random.default_rng(4).permutation(50)
    whole = pl.Series([None if index == 7 else 2**62 + int(index) for index in indices], dtype=pl.Int64)
    result = select(frame(50).with_columns(words=whole), take=take, by="words", count=5)["words"]
    ends = range(45, 50) if take == "high" else range(5)
    assert sorted(number - 2**62 for number in result) == [*ends]
