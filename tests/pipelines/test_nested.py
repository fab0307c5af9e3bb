"""Whole jobs over files whose records stand inside others: each question and conversation is accounted for once."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from running import curricle, read_data, read_rejects

FOLDER = Path(__file__).parents[1] / "data" / "nested"
RECORDS = {"squad.json": (4, 2), "oasst.trees.jsonl": (5, 1), "oasst.messages.jsonl": (5, 2)}
"""Rows and rejects with ``--replies paths``"""


def score(inputs: Path, output: Path, *more: object) -> pa.Table:
    curricle("score", inputs, "--output", output, "--metrics", "mtld", "--max-reject-fraction", 1, *more)
    curricle("verify", output)
    return read_data(output)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    inputs = tmp_path_factory.mktemp("whole")
    for name in RECORDS:
        shutil.copy(FOLDER / name, inputs)
    score(inputs, inputs / "scored", "--replies", "paths")
    return inputs


def test_positions_number_rows_and_rejects_and_verify_counts_them(whole: Path) -> None:
    scored, rejected = read_data(whole / "scored").to_pylist(), read_rejects(whole / "scored")
    for name, (rows, rejects) in RECORDS.items():
        at = [[row["source_position"] for row in each if row["source"] == name] for each in (scored, rejected)]
        assert [len(each) for each in at] == [rows, rejects]
        assert sorted(at[0] + at[1]) == [*range(rows + rejects)]
    sources = json.loads((whole / "scored" / "manifest.json").read_text())["sources"]
    assert {each["source"]: (each["scored"], each["rejected"]) for each in sources} == RECORDS


@pytest.mark.parametrize("workers", [1, 2])
def test_shards_that_end_inside_a_record_give_the_same_table(whole: Path, workers: int, tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    shutil.copytree(whole, inputs, ignore=shutil.ignore_patterns("scored"))
    cut = score(inputs, tmp_path / "cut", "--replies", "paths", "--shard-rows", 1, "--workers", workers)
    assert cut.equals(read_data(whole / "scored"))
    assert read_rejects(tmp_path / "cut") == read_rejects(whole / "scored")


def test_a_table_of_them_grows_and_is_selected_and_copied_from(whole: Path, tmp_path: Path) -> None:
    inputs, output = tmp_path / "in", tmp_path / "scored"
    inputs.mkdir()
    shutil.copy(FOLDER / "oasst.messages.jsonl", inputs)
    score(inputs, output, "--replies", "paths")
    shutil.copy(FOLDER / "squad.json", inputs)
    grown = score(inputs, output, "--replies", "paths", "--append")
    assert len(grown) == 9 and [*dict.fromkeys(grown["source"].to_pylist())] == ["oasst.messages.jsonl", "squad.json"]
    copied = score(inputs, tmp_path / "copied", "--replies", "paths", "--reuse", output)
    assert copied.equals(grown)
    curricle("select", output, "--take", "high", "--by", "prompt_mtld", "--count", 2, "--output", tmp_path / "few")
    assert len(read_data(tmp_path / "few")) == 2
    curricle("verify", tmp_path / "few")


def test_a_job_with_other_replies_is_another_job(whole: Path) -> None:
    printed = curricle("score", whole, "--output", whole / "scored", "--metrics", "mtld", "--replies", "best", code=2)
    assert "replies" in printed and "--overwrite" in printed
