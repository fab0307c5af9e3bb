"""What `verify-order` notices of an export, and of the ids that a trainer has consumed."""

import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle import train
from curricle.schemas.common.errors import UsageError
from curricle.train import cli
from curricle.train.ordering.exports.formats import FORMATS
from train_tables import write_table

ROWS = 40


@pytest.fixture
def table(tmp_path):
    return write_table(
        tmp_path / "table.parquet", {"loss": np.random.default_rng(0).random(ROWS)}, fingerprint="f" * 32
    )


@pytest.fixture
def exported(table, tmp_path):
    train.export(table, "random", "jsonl", tmp_path / "out", batch={"size": 8}, budget={"samples": 60})
    return tmp_path / "out"


def faults(*arguments, **options) -> list[str]:
    return [fault for finding in train.verify_order(*arguments, **options) for fault in finding.faults]


def planned(exported) -> list[str]:
    return pq.read_table(exported / "order.parquet")["example_id"].to_pylist()


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_is_read_back(table, tmp_path, to):
    train.export(table, "random", to, tmp_path / to)
    assert not faults(tmp_path / to, table=table)
    path = next((tmp_path / to / "data").glob("[!i]*"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert faults(tmp_path / to)


def test_rows_in_another_order_are_noticed_and_named(exported):
    path = exported / "data" / "train.jsonl"
    lines = path.read_text().splitlines()
    lines[3], lines[17] = lines[17], lines[3]
    path.write_text("\n".join(lines) + "\n")
    words = "; ".join(faults(exported))
    assert "2 of 60 differ: entry 3 is" in words and "which is entry 17 of the order" in words
    assert "the same rows, as often, in another order" in words and "SHA-256" in words


def test_what_is_misspelt_is_named_before_anything_is_read(exported, table, tmp_path):
    with pytest.raises(UsageError, match="there is no such file"):
        train.verify_order(exported, tmp_path / "absent.txt")
    with pytest.raises(UsageError, match="'los' is no curriculum and no column") as caught:
        train.export(table, "los", "jsonl", tmp_path / "other")
    assert caught.value.remedy == "did you mean 'loss'?"


def test_ids_of_another_order_are_noticed(exported, table, tmp_path):
    order = pq.read_table(exported / "order.parquet")
    pq.write_table(order.take(np.arange(len(order))[::-1]), exported / "order.parquet")
    assert any("not those of the hash" in fault for fault in faults(exported))
    other = write_table(tmp_path / "other.parquet", {"loss": [0.5] * ROWS}, first=1, fingerprint="e" * 32)
    words = "; ".join(faults(exported, table=other))
    assert "which the table does not have there" in words and "another fingerprint" in words


@pytest.mark.parametrize("kind", ["ids.txt", "ids.jsonl", "ids.parquet"])
def test_what_was_consumed_is_compared_as_far_as_it_goes(exported, tmp_path, kind):
    ids, path = planned(exported), tmp_path / kind

    def write(values):
        if kind.endswith("parquet"):
            pq.write_table(pa.table({"example_id": values}), path)
        else:
            path.write_text("".join(f"{json.dumps({'example_id': it}) if 'jsonl' in kind else it}\n" for it in values))
        return path

    assert not faults(exported, write(ids))
    assert not faults(exported, write(ids[:23]))
    assert [str(it) for it in train.verify_order(exported, path)][-1].endswith("the first 23 of 60 rows, in order")
    assert faults(exported, write(ids[:10] + ids[11:12])) and faults(exported, write([*ids, ids[0]]))
    assert "which is not in the order" in faults(exported, write(["0" * 32, *ids[1:]]))[0]
    shuffled = random.Random(0).sample(ids, len(ids))
    assert "they are the same rows, as often, in another order" in faults(exported, write(shuffled))


def test_processes_may_share_a_step(exported, tmp_path):
    """Ids of a step in the order of the ranks are those of the step; those of two steps are not."""
    ids, path = planned(exported), tmp_path / "ids.txt"
    by_rank = [it for start in range(0, 56, 8) for rank in (0, 1) for it in ids[start : start + 8][rank::2]]
    path.write_text("\n".join(by_rank))
    assert faults(exported, path) and not faults(exported, path, within=8)
    path.write_text("\n".join(by_rank[:52]))  # in the middle of a step
    assert faults(exported, path, within=8) == []
    by_rank[7], by_rank[8] = by_rank[8], by_rank[7]
    path.write_text("\n".join(by_rank))
    assert "among entries 0 to 7" in faults(exported, path, within=8)[0]
    path.write_text("\n".join([*by_rank[:7], "0" * 32, *by_rank[8:51], "0" * 32]))
    assert "differ: the first of them among entries 0 to 7" in faults(exported, path, within=8)[0]


def test_exit_codes_and_refusals(exported, tmp_path, capsys):
    assert cli.main(["verify-order", str(exported)]) == 0
    (tmp_path / "wrong.txt").write_text("\n".join(reversed(planned(exported))))
    assert cli.main(["verify-order", str(exported), "--consumed", str(tmp_path / "wrong.txt")]) == 1
    (tmp_path / "broken.jsonl").write_text('{"id": 1}\n')
    assert "line 1 has no example_id" in faults(exported, tmp_path / "broken.jsonl")[0]
    with pytest.raises(UsageError, match=r"there is no order\.json here"):
        train.verify_order(tmp_path)
    sidecar = exported / "order.json"
    sidecar.write_text(sidecar.read_text().replace('"rows": 60', '"rows": 61'))
    with pytest.raises(UsageError, match="not the order of an export"):
        train.verify_order(exported)
    assert cli.main(["verify-order", str(exported)]) == 2
