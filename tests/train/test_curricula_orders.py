"""The orders that never ask: epochs, categories, draws; and budgets, global batches and the running hash."""

from itertools import islice

import drawn
import numpy as np
import pytest
from curricle.schemas.common.errors import UsageError
from curricle.train.curricula import build
from curricle.train.curricula.base import Stage
from curricle.train.curricula.course import Course
from curricle.train.curricula.interleaving import interleave
from curricle.train.ordering.batches import Budget, OrderHash, batches, response_tokens, split
from hypothesis import given, settings
from hypothesis import strategies as st
from train_tables import make_table

ROWS = 97
TOPICS = ["math", "code", None, "chat"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    random = np.random.default_rng(0)
    return make_table(
        tmp_path_factory.mktemp("orders"),
        {
            "loss": random.random(ROWS) * 4,
            "lp": random.random(ROWS),
            "topic": [TOPICS[row % 7 % 4] for row in range(ROWS)],
            "response_tokens": random.integers(1, 50, ROWS),
        },
        low=["lp"],
    )


def stages(table, name, count, seed=0, batch=8, **options):
    course = Course(build(name, options), table, seed, batch)
    return [stage.rows for stage in islice(iter(course.next, None), count)]


EPOCHS = [
    ("random", {}),
    ("sorted", {"by": "loss"}),
    ("sorted", {"by": "lp", "direction": "hard_to_easy"}),
    ("sorted", {"by": "loss", "thresholds": "0.5,0.8"}),
    ("blocked", {"category": "topic"}),
    ("blocked", {"category": "topic", "by": "loss"}),
    ("interleaved", {"category": "topic"}),
    ("interleaved", {"category": "topic", "parts": 0}),
    ("interleaved", {"category": "topic", "by": "loss", "thresholds": (1.0, 3.0), "thresholds_on": "score"}),
]


@pytest.mark.parametrize(("name", "options"), EPOCHS)
def test_every_epoch_visits_every_row_once(table, name, options):
    for rows in stages(table, name, 3, **options):
        assert sorted(rows) == list(range(ROWS))


@pytest.mark.parametrize(
    ("name", "options"), [*EPOCHS, ("competence", {}), ("paced", {"order": "random"}), ("cyclical", {})]
)
def test_the_seed_decides_the_order(table, name, options):
    first, again, other = (np.concatenate(stages(table, name, 3, seed, **options)) for seed in (1, 1, 2))
    assert (first == again).all()
    if "thresholds" in options or name not in ("sorted", "blocked") or (name == "blocked" and "by" not in options):
        assert first.tolist() != other.tolist()  # but sorted scores without ties leave nothing to the seed


def test_random_epochs_differ(table):
    first, second = stages(table, "random", 2)
    assert first.tolist() != second.tolist()


def test_sorted_both_ways(table):
    losses, lp = table.numbers("loss"), table.numbers("lp")
    (easy,) = stages(table, "sorted", 1, by="loss")
    (hard,) = stages(table, "sorted", 1, by="loss", direction="hard_to_easy")
    assert (np.diff(losses[easy]) > 0).all()
    assert (easy[::-1] == hard).all()
    assert (np.diff(lp[stages(table, "sorted", 1, by="lp")[0]]) < 0).all()  # low is hard


@pytest.mark.parametrize(("on", "thresholds"), [("share", "0.5,0.8"), ("score", "1,3")])
def test_bins_are_shuffled_inside_and_sorted_among_each_other(table, on, thresholds):
    losses = table.numbers("loss")
    (rows,) = stages(table, "sorted", 1, by="loss", thresholds=thresholds, thresholds_on=on)
    if on == "share":
        edges = np.ceil(np.array([0.5, 0.8]) * ROWS - 1).astype(int)
    else:
        edges = np.searchsorted(np.sort(losses), [1.0, 3.0])
    easy, medium, hard = np.split(losses[rows], edges)
    assert easy.max() < medium.min() and medium.max() < hard.min()
    for part in (easy, medium, hard):
        assert (np.diff(part) < 0).any()


def test_score_thresholds_of_a_column_whose_low_end_is_hard(table):
    lp = table.numbers("lp")
    (rows,) = stages(table, "sorted", 1, by="lp", thresholds="0.3,0.7", thresholds_on="score")
    assert (np.diff(np.digitize(lp[rows], [0.3, 0.7])) <= 0).all()


def test_interleave_by_hand():
    rows = np.array([10, 11, 12, 13, 14, 15, 16])
    topics = np.array([1, 0, 1, 0, 1, 1, 2])  # category 0: 11 13; 1: 10 12 14 15; 2: 16
    assert interleave(rows, topics, 1).tolist() == [11, 13, 10, 12, 14, 15, 16]
    assert interleave(rows, topics, 2).tolist() == [11, 10, 12, 16, 13, 14, 15]
    assert interleave(rows, topics, 3).tolist() == [11, 10, 12, 16, 13, 14, 15]
    assert interleave(rows, topics, 0).tolist() == [11, 10, 16, 13, 12, 14, 15]


@settings(max_examples=drawn.amount(30, 1_000))
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 9))
def test_interleave_is_array_split_of_every_category(topics, parts):
    codes = np.array(topics)
    rows = np.random.default_rng(0).permutation(len(codes))
    cut = [np.array_split(rows[codes == code], parts) for code in range(codes.max() + 1)]
    expected = [row for part in range(parts) for category in cut for row in category[part]]
    assert interleave(rows, codes, parts).tolist() == expected


def test_blocked_and_interleaved_curricula_sort_inside(table):
    losses, (topics, names) = table.numbers("loss"), table.category("topic")
    assert names == ["chat", "code", "math", "null"]
    (rows,) = stages(table, "blocked", 1, category="topic", by="loss")
    assert rows.tolist() == np.lexsort((losses, topics)).tolist()
    (rows,) = stages(table, "interleaved", 1, category="topic", by="loss", thresholds="1,3", thresholds_on="score")
    keys = np.digitize(losses[rows], [1, 3]) * 10 + topics[rows]  # all easy rows by category, then medium, then hard
    assert (np.diff(keys) >= 0).all()


def test_competence_draws_from_the_easiest_share(table):
    order = table.order("loss", 0)
    rank = np.argsort(order)
    result = stages(table, "competence", 40, batch=4, length=1.0)
    total = round(ROWS / 4)
    for step, rows in enumerate(result):
        share = 1 if step >= total else np.sqrt(step * 0.9999 / total + 0.0001)
        assert len(set(rows.tolist())) == 4
        assert rank[rows].max() < max(4, share * ROWS)
    assert rank[np.concatenate(result[total:])].max() > 0.8 * ROWS


def test_competence_draws_uniformly(table):
    counts = np.bincount(np.concatenate(stages(table, "competence", 2000, c0=1.0)), minlength=ROWS)
    assert counts.mean() == pytest.approx(2000 * 8 / ROWS)
    assert abs(counts - counts.mean()).max() < 5 * np.sqrt(counts.mean())


def test_paced_hard_to_easy_is_the_mirror(table):
    rank = np.argsort(table.order("loss", 0))
    first = np.concatenate(stages(table, "paced", 3, start=0.1, length=50, order="hard_to_easy"))
    assert rank[first].min() >= ROWS - 0.15 * ROWS


def test_cyclical_sizes_and_weights(table):
    losses = table.numbers("loss")
    result = stages(table, "cyclical", 400)
    assert [len(rows) for rows in result[:5]] == [24, 48, 97, 48, 24]
    assert all(len(set(rows.tolist())) == len(rows) for rows in result)
    first = np.array([rows[0] for seed in range(600) for rows in stages(table, "cyclical", 1, seed)])
    probability = 1 / np.maximum(losses, 0.01)
    probability /= probability.sum()
    spread = np.sqrt(600 * probability * (1 - probability))
    assert (abs(np.bincount(first, minlength=ROWS) - 600 * probability) < 4.5 * spread + 1).all()


def test_rows_without_a_score_are_in_no_order_by_it(tmp_path):
    table = make_table(tmp_path, {"loss": [1.0, None, 2.0, 0.5], "topic": ["a", "a", "b", "b"]})
    assert stages(table, "sorted", 1)[0].tolist() == [3, 0, 2]
    assert stages(table, "blocked", 1, category="topic", by="loss")[0].tolist() == [0, 3, 2]
    assert 1 not in np.concatenate(stages(table, "competence", 20, batch=2))
    assert 1 not in np.concatenate(stages(table, "cyclical", 20))


@pytest.mark.parametrize("name", ["sorted", "competence", "paced", "cyclical"])
def test_columns_are_checked_before_the_first_stage(tmp_path, name):
    table = make_table(tmp_path, {"lost": [1.0, 2.0]})
    with pytest.raises(UsageError, match="did you mean 'lost'"):
        Course(build(name, {}), table, 0, 2)


# Budgets and batches


def parts(*sizes):
    """Stages of 0, 1, 2, … in parts of these sizes."""
    ends = np.cumsum(sizes)
    return [Stage(np.arange(end - size, end), index=i) for i, (size, end) in enumerate(zip(sizes, ends, strict=True))]


@settings(max_examples=drawn.amount(40, 2_000))
@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(1, 9), st.integers(1, 60))
def test_a_budget_in_samples_is_exact(sizes, size, samples):
    result = list(batches(parts(*sizes), size, Budget(samples=samples)))
    rows = np.concatenate([np.empty(0, int), *(batch.rows for batch in result)])
    assert rows.tolist() == list(range(min(samples, sum(sizes))))
    assert [batch.step for batch in result] == list(range(len(result)))
    assert all(0 < len(batch.rows) <= size for batch in result)


@settings(max_examples=drawn.amount(40, 2_000))
@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 9), st.integers(1, 300))
def test_a_budget_in_tokens_ends_with_the_last_row_that_fits(sizes, size, limit):
    tokens = np.random.default_rng(0).integers(0, 9, sum(sizes))
    result = list(batches(parts(*sizes), size, Budget(tokens=limit), tokens))
    rows = sum(len(batch.rows) for batch in result)
    assert tokens[:rows].sum() <= limit
    assert rows == sum(sizes) or tokens[:rows].sum() == limit or tokens[: rows + 1].sum() > limit


def test_a_budget_in_steps_is_exact():
    assert [len(batch.rows) for batch in batches(parts(5, 9, 100), 4, Budget(steps=5))] == [3, 2, 3, 3, 3]


def test_the_first_limit_reached_ends():
    assert sum(len(batch.rows) for batch in batches(parts(50), 4, Budget(samples=10, steps=99))) == 10
    assert sum(len(batch.rows) for batch in batches(parts(50), 4, Budget(samples=10, steps=2))) == 7  # of 4, 3 and 3


@pytest.mark.parametrize("budget", [Budget(samples=8), Budget(steps=2), Budget(tokens=8)])
def test_nothing_more_is_asked_of_the_curriculum_when_the_budget_is_spent(budget):
    questions = []

    def spy():
        for stage in parts(4, 4, 4):
            questions.append(stage.index)
            yield stage

    list(batches(spy(), 4, budget, np.ones(12, int)))
    assert questions == [0, 1]


def test_batches_of_a_stage_are_of_nearly_equal_size():
    assert [len(part) for part in split(np.arange(33), 32)] == [17, 16]
    assert [len(part) for part in split(np.arange(64), 32)] == [32, 32]
    assert split(np.arange(0), 32) == []


@pytest.mark.parametrize("budget", [{"samples": 0}, {"tokens": -1}, {"steps": 0}])
def test_an_empty_budget_is_refused(budget):
    with pytest.raises(UsageError):
        Budget(**budget)


def test_response_tokens(table, tmp_path):
    assert response_tokens(table).tolist() == table.numbers("response_tokens").astype(int).tolist()
    with pytest.raises(UsageError, match="no row has response tokens"):
        response_tokens(make_table(tmp_path, {"response_tokens": [0, None, 0]}))


def test_the_running_hash_sees_order_and_batches_and_continues(table):
    def over(groups, start="00" * 16):
        running = OrderHash(start)
        for group in groups:
            running.update(table.ids[np.array(group)])
        return running.hexdigest()

    whole = over([[1, 2], [3]])
    assert over([[3]], over([[1, 2]])) == whole
    assert whole not in {over([[2, 1], [3]]), over([[1, 2]]), over([[1], [2, 3]]), over([[1, 2], [4]])}
