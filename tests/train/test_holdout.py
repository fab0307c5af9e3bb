"""What is held out: never a copy of what is trained on."""

import gzip
import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.schemas.common.errors import UsageError
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import MESSAGES
from curricle.train.data.holdout import split
from curricle.train.data.near_duplicates import word_runs
from curricle.train.data.table import open_table
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


def test_rows_that_stand_in_another_held_out_table_are_not_trained_on(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 10})
    other = write_table(tmp_path / "other.parquet", {"loss": [1.0] * 10}, first=7)
    both = split(settings(data, tmp_path, data={HELD_OUT: other}), 0)
    train, held_out = both.train, both.held_out[HELD_OUT]
    assert (len(train), len(held_out)) == (7, 10) and not ids(train) & ids(held_out)
    assert both.left_out == {"--eval.data": 3}
    assert train.notes == ["3 of 10 rows are not trained on: they stand in --eval.data as well"]
    assert train.numbers("loss").tolist() == [1.0] * 7


def test_a_run_that_was_begun_with_them_goes_on_with_them(tmp_path):
    """As earlier versions trained: by the digest of its rows it is known. Any other digest changes nothing."""
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 10})
    other = write_table(tmp_path / "other.parquet", {"loss": [1.0] * 10}, first=7)
    how = settings(data, tmp_path, data={HELD_OUT: other})
    before = split(how, 0, open_table(data).digest)
    assert len(before.train) == 10 and before.left_out == {}
    (note,) = before.train.notes
    assert note.startswith("3 of 10 rows to train on stand in --eval.data as well: the run was begun so")
    for digest in (split(how, 0).train.digest, "0" * 32, None):
        assert len(split(how, 0, digest).train) == 7


def test_other_sets_can_be_left_out(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 10})
    folder = tmp_path / "judging"
    folder.mkdir()
    write_table(folder / "part.parquet", {"loss": [1.0] * 4})
    for path in (folder, folder / "certificate.json"):
        both = split(replace(settings(data, tmp_path, rows=2), leave_out=(path,)), 0)
        assert len(both.train) == 4 and both.left_out == {"--leave-out judging": 4}
        assert not (ids(both.train) | ids(both.held_out[HELD_OUT])) & ids(open_table(folder))
    none = write_table(tmp_path / "none.parquet", {"loss": [1.0]}, first=50)
    both = split(replace(settings(data, tmp_path), leave_out=(none,)), 0)
    assert both.train.notes == ["0 of 10 rows are not trained on: they stand in --leave-out none.parquet as well"]
    with pytest.raises(UsageError, match="leaves none of 10 rows to train on"):
        split(replace(settings(data, tmp_path), leave_out=(data,)), 0)


def test_tables_of_one_name_are_left_out_together(tmp_path):
    """Rows that stand in several of them count once."""
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 10})
    others = []
    for name, rows, first in (("one", 3, 0), ("two", 2, 2), ("three", 1, 9)):
        (tmp_path / name).mkdir()
        others.append(write_table(tmp_path / name / "part.parquet", {"loss": [1.0] * rows}, first=first))
    parts = split(replace(settings(data, tmp_path), leave_out=(*others, others[0])), 0)
    assert len(parts.train) == 5 and parts.left_out == {"--leave-out part.parquet": 5}
    assert [note for note in parts.train.notes if "5 of 10 rows are not trained on" in note] == parts.train.notes


def table_of_texts(path, texts):
    turns = [[{"role": "user", "content": "…"}, {"role": "assistant", "content": text}] for text in texts]
    names = [example_id([("user", text)]) for text in texts]
    pq.write_table(
        pa.table({"example_id": names, "messages": pa.array(turns, MESSAGES), "loss": [1.0] * len(texts)}), path
    )
    return path


WORDS = [f"w{number}" for number in range(30)]


def test_rows_that_are_like_held_out_rows_are_left_out(tmp_path):
    """By hand: 30 words are 28 runs of three. A change at the end leaves 27 of 29 in common, in the middle 25 of 31."""
    end, middle = " ".join([*WORDS[:-1], "x"]), " ".join([*WORDS[:14], "x", *WORDS[15:]])
    other = " ".join(reversed(WORDS))
    data = table_of_texts(tmp_path / "table.parquet", [end.upper(), middle, other, "!", "的" * 40])
    held = table_of_texts(tmp_path / "held.parquet", [" ".join(WORDS), "?"])
    left = {0.95: {}, 27 / 29: {0}, 0.82: {0}, 25 / 31: {0, 1}, 0.5: {0, 1}}
    for threshold, rows in left.items():
        both = split(settings(data, tmp_path, data={HELD_OUT: held}, near_duplicates=threshold), 0)
        assert ids(both.train) == ids(open_table(data).take(np.array([row for row in range(5) if row not in rows])))
        assert both.left_out == ({f"--eval.near-duplicates {threshold:g}": len(rows)} if rows else {})
    with pytest.raises(UsageError, match="no row is held out"):
        split(settings(data, tmp_path, near_duplicates=0.8), 0)


def test_no_real_pair_that_is_alike_is_missed(tmp_path, shared_data):
    """T0 has one article under several templates: against every pair, by sets."""
    texts = set()
    for name in ("ag_news_classify", "ag_news_classify_with_choices"):
        with gzip.open(shared_data / "t0" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            texts |= {json.loads(line)["prompt"] for line in islice(file, 150)}
    data = table_of_texts(tmp_path / "table.parquet", sorted(texts))
    both = split(settings(data, tmp_path, rows=60, near_duplicates=0.5), 0)
    without = split(settings(data, tmp_path, rows=60), 0)
    held = [word_runs(each) for each in without.held_out[HELD_OUT].examples(np.arange(60))]
    runs = [word_runs(each) for each in without.train.examples(np.arange(len(without.train)))]
    alike = [any(len(one & other) >= 0.5 * len(one | other) for other in held) for one in runs]
    assert sum(alike) > 3, "without the option there is a leak"
    assert ids(both.train) == ids(without.train.take(np.flatnonzero(~np.array(alike))))
    assert ids(both.held_out[HELD_OUT]) == ids(without.held_out[HELD_OUT])


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
    assert {name: len(table) for name, table in both.tuning.items()} == {"tuning": 5} and len(both.train) == 13
    assert not ids(both.train) & ids(both.tuning["tuning"])
    assert not ids(both.held_out["one"]) & (ids(both.train) | ids(both.tuning["tuning"]))
    assert both.train.notes == ["2 of 20 rows are not trained on: they stand in --eval.data one as well"]
    assert ids(both.train.held_out) == ids(both.tuning["tuning"])  # never those that it is judged by


def test_a_curriculum_cannot_ask_about_one_of_several_sets(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 6})
    one, two = (write_table(tmp_path / f"{name}.parquet", {"loss": [1.0]}, first=9) for name in ("one", "two"))
    with pytest.raises(UsageError, match="none are held out, or several"):
        _ = split(settings(data, tmp_path, data={"one": one, "two": two}), 0).train.held_out


def test_each_seed_trains_on_its_own_subset(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [float(row) for row in range(200)]})
    how = PlanSettings(data=data, output=tmp_path, subset=50, eval=EvalSettings(rows=20, tuning_rows=10))
    several = [split(how, seed) for seed in range(3)]
    assert all(len(each.train) == 50 for each in several)
    assert all(ids(each.held_out[HELD_OUT]) == ids(several[0].held_out[HELD_OUT]) for each in several)
    assert all(ids(each.tuning["tuning"]) == ids(several[0].tuning["tuning"]) for each in several)
    assert not any(ids(each.train) & (ids(each.held_out[HELD_OUT]) | ids(each.tuning["tuning"])) for each in several)
    shared = len(ids(several[0].train) & ids(several[1].train))
    assert 5 < shared < 30 and ids(split(how, 1).train) == ids(several[1].train)  # 50 * 50 / 170 are expected
    values = several[0].train.numbers("loss")
    assert (values == sorted(values)).all()  # in the order of the table


def test_a_subset_larger_than_the_rows_is_refused(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 5})
    with pytest.raises(UsageError, match=r"--subset is 5, and there are 4 rows to train on"):
        split(PlanSettings(data=data, output=tmp_path, subset=5, eval=EvalSettings(rows=1)), 0)


def test_rows_to_choose_by_that_are_judged_by_are_said(tmp_path):
    data = write_table(tmp_path / "table.parquet", {"loss": [1.0] * 10})
    judging = write_table(tmp_path / "judging.parquet", {"loss": [1.0] * 3}, first=20)
    for first, expected in ((22, ["1 of 4 rows of tuning in --eval.tuning stand in --eval.data as well"]), (23, [])):
        tuning = write_table(tmp_path / "tuning.parquet", {"loss": [1.0] * 4}, first=first)
        how = EvalSettings(data={"a": judging}, tuning={"tuning": tuning})
        notes = split(replace(settings(data, tmp_path), eval=how), 0).train.notes
        assert [note.partition(":")[0] for note in notes] == expected
