"""Splits as rules have them: every row in one set, no group in two, shares by rows, whatever the order of the rows."""

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from curricle.curate.selection.derive import Rules
from curricle.curate.selection.near_duplicates import contents
from curricle.curate.selection.recipe import Recipe
from curricle.curate.selection.split import assign, groups
from curricle.schemas.common.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st
from test_near_duplicates import runs, turns

SHARES = ("train=0.8", "tuning=0.1", "judging=0.1")


def table_of(ids: list[str], **columns: list) -> pl.DataFrame:
    return pl.DataFrame({"example_id": ids, "source": ["a"] * len(ids), "source_position": range(len(ids)), **columns})


def parted(table: pl.DataFrame, conversations=None, **recipe) -> tuple[dict[str, list[int]], dict]:
    """The rows of each set, and the step of the certificate."""
    rules = Rules(Recipe(**{"split": SHARES, **recipe}), table.columns, {})
    selection = rules.derive(table, lambda rows: (conversations[row] for row in rows))
    return {name: rows.tolist() for name, rows in selection.splits.items()}, selection.steps[-1]


def identity(row: int) -> str:
    return f"{row * 7919 % 100003:032x}"


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
    st.lists(st.integers(1, 9), min_size=2, max_size=5),
    st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_every_row_is_in_one_set_no_group_in_two_and_sizes_are_as_close_as_groups_allow(sizes, parts, seed):
    keys = [f"g{group}" for group, size in enumerate(sizes) for _ in range(size)]
    table = table_of([identity(row) for row in range(len(keys))], key=keys)
    shares = {f"s{at}": Fraction(part, sum(parts)) for at, part in enumerate(parts)}
    sets, step = parted(table, split=tuple(f"{n}={s}" for n, s in shares.items()), split_by="key", seed=seed)
    assert sorted(row for rows in sets.values() for row in rows) == list(range(len(keys)))
    together = [{keys[row] for row in rows} for rows in sets.values()]
    assert sum(map(len, together)) == len(sizes) == step["groups"]
    for name, share in shares.items():
        over = len(sets[name]) - share * len(keys)
        assert over < max(sizes) + 1, "no set is above its share by more than a group"
        assert step["sets"][name] == {
            "share": str(share),
            "rows": len(sets[name]),
            "groups": len({keys[row] for row in sets[name]}),
        }


@pytest.mark.parametrize("rows", [7, 10, 999, 2000])
def test_shares_of_single_rows_are_exact(rows):
    sets, _ = parted(table_of([identity(row) for row in range(rows)]))
    assert all(abs(len(sets[name]) - share * rows) < 1 for name, share in Recipe(split=SHARES).split_shares().items())


def test_a_large_group_leaves_the_shares_of_the_others_exact():
    """Groups of one row fill up what it leaves: 300 rows of one group and 700 others are parted 800, 100, 100."""
    keys = ["large"] * 300 + [f"{row}" for row in range(700)]
    for seed in range(5):
        sets, _ = parted(table_of([identity(row) for row in range(1000)], key=keys), split_by="key", seed=seed)
        assert [len(rows) for rows in sets.values()] == [800, 100, 100]
        assert set(range(300)) <= set(sets["train"])


def test_a_group_is_drawn_into_each_set_about_as_often_as_the_set_has_rows():
    drawn = np.zeros(2)
    for seed in range(400):
        table = table_of([identity(row) for row in range(40)], key=["pair"] * 2 + [str(row) for row in range(38)])
        sets, _ = parted(table, split=("a=0.75", "b=0.25"), split_by="key", seed=seed)
        drawn[0 if 0 in sets["a"] else 1] += 1
    assert abs(drawn[1] / 400 - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5


def test_the_order_of_the_rows_changes_nothing_and_the_seed_everything():
    rows = 500
    table = table_of([identity(row) for row in range(rows)], key=[row % 90 for row in range(rows)])
    turned = np.random.default_rng(0).permutation(rows)
    for by in ("example", "key"):
        sets, _ = parted(table, split_by=by)
        again, _ = parted(table[turned], split_by=by)
        assert {name: sorted(turned[rows].tolist()) for name, rows in again.items()} == sets
        assert parted(table, split_by=by, seed=1)[0] != sets


def test_few_rows_move_when_rows_are_added():
    """The shares are exact, so some rows have to: those whose hash is near a threshold."""
    ids = [identity(row) for row in range(2200)]
    before, _ = parted(table_of(ids[:2000]))
    after, _ = parted(table_of(ids))
    same = sum(len({*before[name]} & {*after[name]}) for name in before)
    assert 1900 < same < 2000


def test_null_groups_are_their_own_and_a_doubled_example_never_parts():
    ids = [identity(row) for row in range(60)]
    ids[40] = ids[3]  # one conversation in two groups: these are one
    keys = [*(row // 5 for row in range(50)), *[None] * 10]
    sets, step = parted(table_of(ids, key=keys), split=("a=0.45", "b=0.55"), split_by="key")
    of = {row: name for name, rows in sets.items() for row in rows}
    assert len({of[row] for row in (*range(5), *range(40, 45))}) == 1
    assert (step["groups"], step["merged"], step["nulls"], step["largest"]) == (10 - 1 + 10, 1, 10, 10)
    assert len({of[row] for row in range(50, 60)}) == 2


def test_groups_are_numbered_by_the_least_of_their_keys():
    group, keys, merged = groups(pl.Series(["c", "a", "b", "c", "d"]), pl.Series(["1", "2", "2", "3", "3"]))
    assert (keys.to_list(), group.tolist(), merged) == (["a", "c"], [1, 0, 0, 1, 1], 2)


def test_what_fits_nowhere_goes_where_most_room_is():
    assert assign(np.array([9, 1, 1]), np.array([0.99, 0.5, 0.6]), [6, 5]).tolist() == [0, 1, 1]


def test_near_duplicates_never_part_also_through_others():
    """Chains: each is like the next one alone. What is unlike all is on its own, and so is a row without words."""
    words = [f"w{number}" for number in range(400)]
    rows = [turns("", " ".join(words[start : start + 100])) for start in range(0, 60, 6)]
    rows += [turns(f"question {row}", f"answer {row} of its own") for row in range(50)] + [
        turns("!", "?"),
        turns("", ""),
    ]
    assert len(runs((*contents("conversation", rows[0]),)) & runs((*contents("conversation", rows[9]),))) < 60
    table = table_of([identity(row) for row in range(len(rows))])
    for seed in range(4):
        sets, step = parted(table, rows, split=("a=0.5", "b=0.5"), split_by="near_duplicates", seed=seed)
        assert any({*range(10)} <= {*each} for each in sets.values())
        assert (step["groups"], step["largest"], step["nulls"]) == (1 + 52, 10, 2)
    apart, step = parted(table, rows, split=("a=0.5", "b=0.5"), seed=1)
    assert step["groups"] == len(rows) and 0 < len({*range(10)} & {*apart["a"]}) < 10  # by example they part


def test_what_is_compared_may_be_the_prompt_alone():
    question = " ".join(f"word{number}" for number in range(30))
    rows = [turns(question, " ".join(f"a{row}b{number}" for number in range(90))) for row in range(8)]
    table = table_of([identity(row) for row in range(8)])
    _, step = parted(table, rows, split_by="near_duplicates", split_of="prompt")
    assert step["groups"] == 1
    _, step = parted(table, rows, split_by="near_duplicates")
    assert step["groups"] == 8


def test_a_misspelt_way_to_split_is_guessed():
    with pytest.raises(UsageError, match="near_duplicate'") as error:
        Rules(Recipe(split=SHARES, split_by="near_duplicate"), ["example_id", "loss"], {})
    assert error.value.remedy == "did you mean 'near_duplicates'?"


def test_the_complement_is_all_that_is_not_taken():
    table = table_of([identity(row) for row in range(20)], loss=[None, *range(19)])
    for rules in (
        {"where": "loss > 4"},
        {"take": "low", "by": "loss", "count": 5},
        {"distinct": True, "where": "loss < 9"},
    ):
        chosen = Rules(Recipe(**rules), table.columns, {}).derive(table, lambda rows: ())
        others = Rules(Recipe(**rules, complement=True), table.columns, {}).derive(table, lambda rows: ())
        assert sorted([*chosen.rows, *others.rows]) == list(range(20)) and 0 in others.rows
        assert others.steps == [*chosen.steps, {"rule": "complement", "rows": 20, "left": len(others.rows)}]


WRONG = {
    "sum to 0.9": {"split": ("a=0.8", "b=0.1")},
    "sum to 1.1": {"split": ("a=0.8", "b=0.3")},
    "sum to 0.99999999": {"split": ("a=0.5", "b=0.49999999")},
    "has 'a'": {"split": ("a", "b=0.5")},
    "has 'a=1/0'": {"split": ("a=1/0", "b=0.5")},
    "has 'a=nan'": {"split": ("a=nan", "b=0.5")},
    "has '../a=0.5'": {"split": ("../a=0.5", "b=0.5")},
    "has '.=0.5'": {"split": (".=0.5", "b=0.5")},
    "has 'a=1'": {"split": ("a=1",)},
    "names A twice": {"split": ("a=0.5", "A=0.5")},
    "is none of --split": {"split": ("a=0.5", "b=0.5"), "split_only": "c"},
    "--split-by key would change nothing here: it is for --split": {"split_by": "key", "distinct": True},
    "it is for --split with --split-by near_duplicates": {"split": ("a=0.5", "b=0.5"), "split_threshold": 0.7},
    "--split-threshold is 0.2": {"split": ("a=1/2", "b=1/2"), "split_by": "near_duplicates", "split_threshold": 0.2},
    "--split parts all rows, and --take low": {
        "split": ("a=0.5", "b=0.5"),
        "take": "low",
        "by": "loss",
        "count": 3,
    },
    "--complement would change nothing here": {"split": ("a=0.5", "b=0.5"), "complement": True},
    "no rule says which rows": {"complement": True},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_splits(message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        Recipe(**WRONG[message])


@pytest.mark.parametrize(("by", "message"), [("kye", "did you mean 'key'"), ("number", "holds Float64")])
def test_wrong_columns(by, message):
    table = table_of([identity(row) for row in range(4)], key=[1, 2, 3, 4], number=[0.5] * 4)
    with pytest.raises(UsageError) as error:
        parted(table, split_by=by)
    assert message in str(error.value)


def test_a_recipe_without_a_split_is_written_as_before():
    recipe = Recipe(take="random", count=3)
    assert recipe.version == 2 and not any("split" in name or name == "complement" for name in recipe.to_json())
    assert Recipe(distinct=True, complement=True).version == Recipe(split=SHARES).version == 3
