"""What is held out: never a copy of what is trained on."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.schemas.common.errors import UsageError
from curricle.train.data.holdout import split
from curricle.train.settings import EvalSettings, PlanSettings
from train_tables import write_table


def settings(table, output, **options):
    return PlanSettings(data=table, output=output, eval=EvalSettings(**options))


def ids(table):
    return {row.tobytes() for row in table.ids}


@pytest.mark.parametrize("held", range(1, 12))
def test_equal_ids_are_on_one_side(tmp_path, held):
    once = pq.read_table(write_table(tmp_path / "once.parquet", {"loss": [1.0, 2.0, 3.0, 4.0, 5.0]}))
    pq.write_table(pa.concat_tables([once] * 3), tmp_path / "copies.parquet")
    train, held_out = split(settings(tmp_path / "copies.parquet", tmp_path, rows=held))
    assert not ids(train) & ids(held_out)
    assert len(train) + len(held_out) == 15
    assert held <= len(held_out) < held + 3


def test_without_copies_as_many_are_held_out_as_asked(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [float(row) for row in range(20)]})
    train, held_out = split(settings(data, tmp_path, rows=7))
    assert (len(train), len(held_out)) == (13, 7) and len(ids(train) | ids(held_out)) == 20


def test_rows_that_stand_in_another_held_out_table_are_counted(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 10})
    other = write_table(tmp_path / "other.parquet", {"loss": [1.0] * 10}, first=7)
    train, held_out = split(settings(data, tmp_path, data=other))
    assert (len(train), len(held_out)) == (10, 10)
    assert train.notes == ["3 of 10 rows to train on stand in --eval.data as well"]


def test_one_row_can_be_held_out(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [float(row) for row in range(5)]})
    one = write_table(tmp_path / "one.parquet", {"loss": [1.0]}, first=7)
    assert [len(part) for part in split(settings(data, tmp_path, rows=1))] == [4, 1]
    assert [len(part) for part in split(settings(data, tmp_path, rows=3))] == [2, 3]
    assert [len(part) for part in split(settings(data, tmp_path, data=one))] == [5, 1]


@pytest.mark.parametrize(("rows", "left"), [(4, "1"), (5, "none"), (500, "none")])
def test_too_many_rows_to_hold_out_are_named(tmp_path, rows, left):
    data = write_table(tmp_path / "table.parquet", {"loss": [float(row) for row in range(5)]})
    with pytest.raises(UsageError, match=f"--eval.rows {rows} leaves {left} of 5 rows to train on"):
        split(settings(data, tmp_path, rows=rows))


def test_an_empty_table_is_not_looked_at(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 4})
    pq.write_table(pq.read_table(data).slice(0, 0), tmp_path / "none.parquet")
    with pytest.raises(UsageError, match=r"none\.parquet: the table has 0 rows"):
        split(settings(data, tmp_path, data=tmp_path / "none.parquet"))
