"""The estimate of the student's present loss: where it starts, what it finds, and that nothing but its input counts."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from curricle.schemas.common.errors import UsageError
from curricle.train.curricula.campus import estimate
from curricle.train.curricula.campus.estimate import COEFFICIENT, NAT, LossEstimate
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray
from train_tables import make_table

ROWS = 2000
EVERY = np.arange(ROWS)
ROUNDING = 1e-6


@pytest.fixture
def table(tmp_path: Path) -> Table:
    random = np.random.default_rng(0)
    return make_table(
        tmp_path,
        {
            "loss": random.gamma(4, 0.6, ROWS).tolist(),
            "mtld": random.normal(60, 20, ROWS).tolist(),
            "response_tokens": random.integers(1, 200, ROWS).tolist(),
            "text": ["a"] * ROWS,
        },
    )


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2 * np.argsort(np.argsort(values)) / len(values) - 1


def steps(rows: int = 100, count: int = 10) -> Iterator[tuple[int, Rows]]:
    order = np.random.default_rng(1).permutation(ROWS)
    yield from ((step, order[rows * (step - 1) : rows * step]) for step in range(1, count + 1))


def unvisited(**options: int) -> Rows:
    return np.setdiff1d(EVERY, np.concatenate([rows for _, rows in steps(**options)]))


def observe(estimate: LossEstimate, rows: Rows, loss: NDArray[np.float64], step: int) -> None:
    tokens = 5 + rows % 7
    estimate.observe(rows, loss[rows] * tokens, tokens, step)


def test_without_observations_it_is_the_stored_loss(table):
    stored = table.numbers("loss")
    assert LossEstimate(table, ["mtld"]).predict(EVERY) == pytest.approx(stored, abs=ROUNDING)
    assert LossEstimate(table, []).predict(EVERY[7:9]) == pytest.approx(stored[7:9], abs=ROUNDING)


def test_a_table_without_losses_starts_at_zero_and_learns(tmp_path):
    table = make_table(tmp_path, {"mtld": [float(row) for row in range(ROWS)]})
    estimated, loss = LossEstimate(table, ["mtld:low"]), 2 + 0.5 * ranks(EVERY)
    assert not estimated.predict(EVERY).any()
    for step, rows in steps():
        observe(estimated, rows, loss, step)
    rest = unvisited()
    assert estimated.predict(rest) == pytest.approx(loss[rest], abs=0.1)
    assert estimated.predict(EVERY) == pytest.approx(loss, abs=0.25)  # the first rows, by the fit of the first steps


def test_the_example_of_the_module(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "RIDGE", 10**9)  # the example leaves the column of ranks out
    estimated = LossEstimate(make_table(tmp_path, {"loss": [1.0, 2.0, 4.0]}), [])
    estimated.observe(np.array([0, 1]), np.array([5.0, 15.0]), np.array([10, 10]), 1)
    assert estimated.predict(np.arange(3)) == pytest.approx([0.5, 1.5, 3.5])
    estimated.observe(np.array([2]), np.array([30.0]), np.array([10]), 2)
    assert estimated.predict(np.arange(3)) == pytest.approx([0.17, 1.17, 3], abs=0.5 / COEFFICIENT + 0.01)


def test_a_student_whose_loss_is_linear_in_the_scores_is_found(table):
    short = 16 / (16 + table.numbers("response_tokens"))
    loss = 0.8 * table.numbers("loss") - 0.5 + 0.4 * ranks(table.numbers("mtld")) - 0.6 * short
    estimated = LossEstimate(table, ["mtld"])
    for step, rows in steps():
        observe(estimated, rows, loss, step)
    rest = unvisited()
    assert np.quantile(np.abs(estimated.predict(rest) - loss[rest]), 0.97) < 0.1  # outliers are cut
    assert np.abs(table.numbers("loss") - loss).mean() > 0.6  # it had something to find


def test_one_row_moves_all_by_its_difference_and_no_order(table):
    estimated, before = LossEstimate(table, ["mtld"]), table.numbers("loss")
    estimated.observe(np.array([3]), np.array([before[3] * 9 - 9]), np.array([9]), 1)
    after = estimated.predict(EVERY)
    assert after == pytest.approx(before - 1, abs=0.5)
    assert np.corrcoef(ranks(after), ranks(before))[0, 1] > 0.99


def test_a_row_that_was_observed_has_its_own_loss(table):
    random = np.random.default_rng(2)
    loss = table.numbers("loss") + random.normal(0, 1, ROWS)  # what no column tells
    estimated = LossEstimate(table, ["mtld"])
    for step, rows in steps():
        observe(estimated, rows, loss, step)
        assert estimated.predict(rows) == pytest.approx(loss[rows], abs=1 / NAT)
    first = next(steps())[1]
    assert np.corrcoef(estimated.predict(first), loss[first])[0, 1] > 0.98


def test_a_student_that_jumps_is_followed(table):
    stored, estimated = table.numbers("loss"), LossEstimate(table, ["mtld"])
    rest, errors = unvisited(rows=60, count=30), []
    for step, rows in steps(60, 30):
        observe(estimated, rows, stored - 1.0 * (step > 15), step)
        errors.append(np.abs(estimated.predict(rest) - (stored[rest] - 1.0 * (step > 15))).max())
    assert errors[14] < 0.05 < 0.7 < errors[15]
    assert errors[25] < 0.35 and errors[29] < 0.2


def test_neither_the_order_within_a_step_nor_rows_without_tokens_count(table):
    loss = table.numbers("loss") * 0.8
    one, other = LossEstimate(table, ["mtld"]), LossEstimate(table, ["mtld"])
    for step, rows in steps(count=4):
        observe(one, rows, loss, step)
        observe(other, rows[::-1][:5], loss, step)
        other.observe(EVERY, np.full(ROWS, 7.0), np.zeros(ROWS, np.int64), step)
        other.observe(rows, np.full(len(rows), np.nan), np.ones(len(rows), np.int64), step)
        observe(other, rows[::-1][5:], loss, step)
        other.observe(rows[:0], loss[:0], rows[:0], step)
    assert one.predict(EVERY).tobytes() == other.predict(EVERY).tobytes()
    assert one.predict(EVERY[::-1]).tobytes() == other.predict(EVERY)[::-1].tobytes()


def test_rows_without_a_score_are_in_the_middle(tmp_path):
    stored = [None if row % 5 == 0 else 1.0 + row % 4 for row in range(ROWS)]
    empty = [None if row % 3 else float(row) for row in range(ROWS)]
    table = make_table(tmp_path, {"loss": stored, "mtld": empty})
    estimated = LossEstimate(table, ["mtld"])
    before = estimated.predict(EVERY)
    assert before[::5] == pytest.approx(np.nanmedian(np.array(stored, float)), abs=0.51)
    for step, rows in steps():
        observe(estimated, rows, before + 0.25, step)
    assert estimated.predict(EVERY) == pytest.approx(before + 0.25, abs=0.03)


def test_last_bits_do_not_count(table):
    random = np.random.default_rng(3)
    loss = table.numbers("loss") * 0.7 + random.normal(0, 0.3, ROWS)
    one, other = LossEstimate(table, ["mtld"]), LossEstimate(table, ["mtld"])
    for step, rows in steps():
        observe(one, rows, loss, step)
        observe(other, rows, loss * (1 + 1e-7 * random.uniform(-1, 1, ROWS)), step)
        assert one.predict(unvisited()).tobytes() == other.predict(unvisited()).tobytes()
        assert one.predict(EVERY) == pytest.approx(other.predict(EVERY), abs=3 / NAT)


def test_outliers_stay_in_range(tmp_path):
    table = make_table(tmp_path, {"loss": [1e300, -1e300, *[1.0] * 38], "mtld": [1e308, *[0.0] * 39]})
    estimated, rows = LossEstimate(table, ["mtld"]), np.arange(40)
    for step in (1, 10**7):
        estimated.observe(rows, np.full(40, 1e308), np.ones(40, np.int64), step)
        assert np.isfinite(estimated.predict(rows)).all()


def test_ranks():
    values = np.array([3.0, np.nan, 1.0, 3.0, 7.0])
    assert estimate._ranks(values).tolist() == [0, 0, -768, 0, 768]
    assert estimate._ranks(np.full(3, np.nan)).tolist() == [0, 0, 0]
    assert estimate._ranks(np.zeros(0)).tolist() == []
    assert estimate._ranks(np.arange(4.0)).tolist() == [-768, -256, 256, 768]


def test_the_solution_is_exact():
    random = np.random.default_rng(4)
    features = random.integers(-1000, 1000, (5, 30)).astype(object)
    wanted = [64, -32, 0, 7, 200]
    losses = np.array(wanted, object) @ features * (NAT // (estimate.UNIT * COEFFICIENT))
    moments = np.hstack([features @ features.T, (features @ losses)[:, None]]) * 3**80
    assert estimate._solved(moments, [0] * 5) == wanted
    assert estimate._solved(moments, [int(Fraction(10) ** 80)] * 5) == [0] * 5


def test_what_it_cannot_use(table):
    with pytest.raises(UsageError, match="absent"):
        LossEstimate(table, ["absent"])
    with pytest.raises(UsageError, match="holds string"):
        LossEstimate(table, ["text"])
