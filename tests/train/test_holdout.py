"""What is held out: never a copy of what is trained on."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.schemas.common.errors import UsageError
from curricle.train.data.holdout import split
from curricle.train.settings import HELD_OUT, EvalSettings, PlanSettings
from train_tables import write_table


def settings(table, output, **options):
    return PlanSettings(data=table, output=output, eval=EvalSettings(**options))


def parts(settings):
    """The rows to train on and the one set that is held out."""
    both = split(settings, 0)
    (held_out,) = both.held_out.values()
    return both.train, held_out


def ids(table):
    return {row.tobytes() for row in table.ids}


@pytest.mark.parametrize("held", range(1, 12))
def test_equal_ids_are_on_one_side(tmp_path, held):
    once = pq.read_table(write_table(tmp_path / "once.parquet", {"loss": [1.0, 2.0, 3.0, 4.0, 5.0]}))
    pq.write_table(pa.concat_tables([once] * 3), tmp_path / "copies.parquet")
    train, held_out = parts(settings(tmp_path / "copies.parquet", tmp_path, rows=held))
    assert not ids(train) & ids(held_out)
    assert len(train) + len(held_out) == 15
    assert held <= len(held_out) < held + 3


def test_without_copies_as_many_are_held_out_as_asked(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [float(row) for row in range(20)]})
    train, held_out = parts(settings(data, tmp_path, rows=7))
    assert (len(train), len(held_out)) == (13, 7) and len(ids(train) | ids(held_out)) == 20


def test_rows_that_stand_in_another_held_out_table_are_counted(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 10})
    other = write_table(tmp_path / "other.parquet", {"loss": [1.0] * 10}, first=7)
    train, held_out = parts(settings(data, tmp_path, data={HELD_OUT: other}))
    assert (len(train), len(held_out)) == (10, 10)
    assert train.notes == ["3 of 10 rows to train on stand in --eval.data as well"]


def test_one_row_can_be_held_out(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [float(row) for row in range(5)]})
    one = write_table(tmp_path / "one.parquet", {"loss": [1.0]}, first=7)
    assert [len(part) for part in parts(settings(data, tmp_path, rows=1))] == [4, 1]
    assert [len(part) for part in parts(settings(data, tmp_path, rows=3))] == [2, 3]
    assert [len(part) for part in parts(settings(data, tmp_path, data={HELD_OUT: one}))] == [5, 1]


@pytest.mark.parametrize(("rows", "left"), [(4, "1"), (5, "none"), (500, "none")])
def test_too_many_rows_to_hold_out_are_named(tmp_path, rows, left):
    data = write_table(tmp_path / "table.parquet", {"loss": [float(row) for row in range(5)]})
    with pytest.raises(UsageError, match=f"--eval.rows {rows} leaves {left} of 5 rows to train on"):
        parts(settings(data, tmp_path, rows=rows))


def test_an_empty_table_is_not_looked_at(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 4})
    pq.write_table(pq.read_table(data).slice(0, 0), tmp_path / "none.parquet")
    with pytest.raises(UsageError, match=r"none\.parquet: the table has 0 rows"):
        parts(settings(data, tmp_path, data={HELD_OUT: tmp_path / "none.parquet"}))


def test_several_sets_are_held_out_by_name(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [float(row) for row in range(20)]})
    one = write_table(tmp_path / "one.parquet", {"loss": [1.0] * 4}, first=18)
    two = write_table(tmp_path / "two.parquet", {"loss": [1.0] * 6}, first=50)
    both = split(settings(data, tmp_path, data={"one": one, "two": two}, tuning_rows=5), 0)
    assert {name: len(table) for name, table in both.held_out.items()} == {"one": 4, "two": 6}
    assert {name: len(table) for name, table in both.tuning.items()} == {"tuning": 5} and len(both.train) == 15
    assert not ids(both.train) & ids(both.tuning["tuning"])
    left = len(ids(both.train) & ids(both.held_out["one"]))
    assert both.train.notes == [f"{left} of 15 rows to train on stand in --eval.data one as well"] * bool(left)
    assert ids(both.train.held_out) == ids(both.tuning["tuning"])  # never those that it is judged by


def test_a_curriculum_cannot_ask_about_one_of_several_sets(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 6})
    one, two = (write_table(tmp_path / f"{name}.parquet", {"loss": [1.0]}, first=9) for name in ("one", "two"))
    with pytest.raises(UsageError, match="none are held out, or several"):
        _ = split(settings(data, tmp_path, data={"one": one, "two": two}), 0).train.held_out


def test_each_seed_trains_on_its_own_subset(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [float(row) for row in range(200)]})
    made = PlanSettings(data=data, output=tmp_path, subset=50, eval=EvalSettings(rows=20, tuning_rows=10))
    several = [split(made, seed) for seed in range(3)]
    assert all(len(each.train) == 50 for each in several)
    assert all(ids(each.held_out[HELD_OUT]) == ids(several[0].held_out[HELD_OUT]) for each in several)
    assert all(ids(each.tuning["tuning"]) == ids(several[0].tuning["tuning"]) for each in several)
    assert not any(ids(each.train) & (ids(each.held_out[HELD_OUT]) | ids(each.tuning["tuning"])) for each in several)
    shared = len(ids(several[0].train) & ids(several[1].train))
    assert 5 < shared < 30 and ids(split(made, 1).train) == ids(several[1].train)  # 50 * 50 / 170 are expected
    values = several[0].train.numbers("loss")
    assert (values == sorted(values)).all()  # in the order of the table


def test_a_subset_larger_than_the_rows_is_refused(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 5})
    with pytest.raises(UsageError, match=r"--subset is 5, and there are 4 rows to train on"):
        split(PlanSettings(data=data, output=tmp_path, subset=5, eval=EvalSettings(rows=1)), 0)
