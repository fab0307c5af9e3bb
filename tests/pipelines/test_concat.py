"""`curricle concat`: the rows of several tables as one, where columns are made alike; and what is refused by name."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from curricle import pipelines
from curricle.curate.formats import VERSION
from curricle.schemas.common.errors import UsageError
from curricle.schemas.manifest import read_manifest
from curricle.schemas.verify import verify
from curricle.train.data.table import open_table
from running import curricle, read_data, read_rejects, signed, write_jsonl
from table_maker import COLUMNS, SOURCES, make_table, random_scores

ROWS = [{"instruction": f"Add {row} and 2.", "output": f"{row + 2}, of course. " * (row % 5 + 3)} for row in range(60)]
METRICS = ("--metrics", "mtld,mattr")
ORIGIN = ("example_id", "source", "source_position")


def halves(folder: Path) -> list[Path]:
    """Two files, the second with records that are rejected."""
    lines = [json.dumps(row) for row in ROWS]
    (folder / "a.jsonl").write_text("\n".join(lines[:25]) + "\n")
    (folder / "b.jsonl").write_text(
        "\n".join([*lines[25:40], "no JSON", *lines[40:], '{"prompt": "no answer"}']) + "\n"
    )
    return [folder / "a.jsonl", folder / "b.jsonl"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """A table of two files, one of each, and a split of the first."""
    folder = tmp_path_factory.mktemp("concat")
    halves(folder)
    for name, files in (("whole", ["a.jsonl", "b.jsonl"]), ("one", ["a.jsonl"]), ("two", ["b.jsonl"])):
        curricle("score", *files, "--output", name, *METRICS, "--shard-rows", 10, cwd=folder)
    curricle("select", "whole", "--output", "sets", "--split", "train=0.6,tuning=0.2,judging=0.2", cwd=folder)
    return folder


def files(table: Path) -> dict[str, bytes]:
    return {path.relative_to(table).as_posix(): path.read_bytes() for path in sorted(table.glob("*/part-*.parquet"))}


def test_two_halves_are_the_whole_to_the_last_byte(tables, tmp_path):
    message = curricle("concat", tables / "one", tables / "two", "--output", tmp_path / "all")
    assert "60 rows and 2 rejects of 2 tables" in message and "whole" in curricle("verify", tmp_path / "all")
    assert files(tmp_path / "all") == files(tables / "whole") and len(files(tmp_path / "all")) == 2
    mine, its = signed(tmp_path / "all"), signed(tables / "whole")
    origins = mine.pop("concatenated_from")
    assert mine == {key: value for key, value in its.items() if key != "concatenated_from"}
    assert [(each["name"], each["rows"], each["rejected"]) for each in origins] == [("one", 25, 0), ("two", 35, 2)]
    assert open_table(tmp_path / "all").difficulty("response_mtld").shape == (60,)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    curricle("concat", tables / "one", tables / "two", "--output", tmp_path / "all")
    assert before == {path: path.stat().st_mtime_ns for path in before}, "it is there already"


def test_a_table_that_is_put_together_goes_on_like_any_other(tables, tmp_path):
    pipelines.concat([tables / "one", tables / "two"], tmp_path / "all")
    manifest = pipelines.add(tmp_path / "all", ["hdd"], tmp_path / "more")
    assert len(manifest.concatenated_from) == 2 and not pipelines.verify(tmp_path / "more").faults
    pipelines.select(tmp_path / "all", tmp_path / "few", take="hard", by="response_mtld", count=7)
    assert pipelines.check_selection(tmp_path / "few") == [] and not pipelines.verify(tmp_path / "few").faults
    assert "tables that were put together" in curricle(
        "score", tables / "a.jsonl", "--output", tmp_path / "all", *METRICS, code=2
    )


@pytest.mark.parametrize("names", [["train", "tuning", "judging"], ["judging", "train", "tuning"]], ids="-".join)
def test_the_sets_of_a_split_are_merged_by_position(tables, tmp_path, names):
    curricle("concat", *(tables / "sets" / name for name in names), "--output", tmp_path / "all")
    assert read_data(tmp_path / "all").equals(read_data(tables / "whole"))
    assert {name: read for name, read in files(tmp_path / "all").items()}.items() <= files(tables / "whole").items()
    manifest = read_manifest(tmp_path / "all")
    assert (manifest.total.read, manifest.total.left_out, manifest.total.rejected) == (60, 0, 0)
    assert verify(tmp_path / "all").faults == []


def test_sources_in_another_order_are_read_in_stretches(tables, tmp_path):
    """One table has a before b and the other b before a, each a part of both files."""
    curricle("score", "b.jsonl", "a.jsonl", "--output", tmp_path / "turned", *METRICS, cwd=tables)
    curricle("select", tables / "whole", "--output", tmp_path / "x", "--take", "random", "--fraction", "0.5")
    curricle("select", tmp_path / "turned", "--output", tmp_path / "y", "--take", "random", "--fraction", "0.5",
             "--complement")  # fmt: skip
    curricle("concat", tmp_path / "x", tmp_path / "y", "--output", tmp_path / "all")
    assert read_data(tmp_path / "all").equals(read_data(tables / "whole"))
    curricle("concat", tmp_path / "y", tmp_path / "x", "--output", tmp_path / "back")
    assert read_data(tmp_path / "back").equals(read_data(tmp_path / "turned"))


def test_a_record_that_stands_in_two_tables_is_refused(tables, tmp_path):
    message = curricle("concat", tables / "whole", tables / "two", "--output", tmp_path / "all", code=2)
    assert "37 records stand twice: the first is b.jsonl position 0, in whole and two" in message
    assert not (tmp_path / "all").exists()


def test_different_files_of_one_name_are_told_apart(tables, tmp_path):
    for day, rows in (("monday", ROWS[:10]), ("tuesday", ROWS[10:30])):
        (tmp_path / day).mkdir()
        write_jsonl(tmp_path / day / "in.jsonl", rows)
        curricle("score", "in.jsonl", "--output", "scored", *METRICS, cwd=tmp_path / day)
    message = curricle("concat", "monday/scored", "tuesday/scored", "--output", "week", cwd=tmp_path)
    assert "in.jsonl of tuesday/scored is called tuesday/scored/in.jsonl" in message
    sources = read_data(tmp_path / "week")["source"].to_pylist()
    assert sources == ["monday/scored/in.jsonl"] * 10 + ["tuesday/scored/in.jsonl"] * 20
    assert read_manifest(tmp_path / "week").concatenated_from[1].renamed == {"in.jsonl": "tuesday/scored/in.jsonl"}
    assert "whole" in curricle("verify", tmp_path / "week")


def test_the_same_file_under_two_names_is_said(tables, tmp_path):
    shutil.copy(tables / "a.jsonl", tmp_path / "copy.jsonl")
    curricle("score", "copy.jsonl", "--output", "copy", *METRICS, cwd=tmp_path)
    message = curricle("concat", tables / "one", tmp_path / "copy", "--output", tmp_path / "all")
    assert "files of the same bytes, each with rows: a.jsonl, copy.jsonl" in message


def changed(index: int, **changes) -> list:
    columns = list(COLUMNS)
    columns[index] = columns[index].of_metric(columns[index].metric, changes["version"], {})
    return columns


def test_what_is_made_otherwise_is_named_with_both_fingerprints(tmp_path):
    scores = random_scores(30)
    make_table(tmp_path / "old", scores, rows=30)
    make_table(tmp_path / "new", scores, changed(3, version=9)[:-1], rows=30)
    message = curricle("concat", tmp_path / "old", tmp_path / "new", "--output", tmp_path / "all", code=2)
    old, new = (read_manifest(tmp_path / name) for name in ("old", "new"))
    assert f"column loss: {old.columns['loss']} in old, {new.columns['loss']} in new: metrics.loss.version" in message
    assert f"column embedding: {old.columns['embedding']} in old, and new has none" in message
    assert "response_mtld" not in message and not (tmp_path / "all").exists()
    message = curricle(*("concat", tmp_path / "old", tmp_path / "new", "--columns", "los"),
                       *("--output", tmp_path / "all"), code=2)  # fmt: skip
    assert "no score column 'los'" in message and "did you mean 'loss'" in message


def test_columns_that_agree_are_kept_alone(tables, tmp_path):
    curricle("add", tables / "two", "--output", tmp_path / "two", "--metrics", "hdd")
    message = curricle("concat", tables / "one", tmp_path / "two", "--output", tmp_path / "all", code=2)
    assert "column response_hdd" in message and "one has none" in message
    names = "response_mtld,prompt_mattr"
    curricle("concat", tables / "one", tmp_path / "two", "--columns", names, "--output", tmp_path / "all")
    mine, its = (read_data(path).drop(["notes"]) for path in (tmp_path / "all", tables / "whole"))
    assert mine.equals(its.drop(["prompt_mtld", "response_mattr"]))
    notes = {note.partition(":")[0] for row in read_data(tmp_path / "all")["notes"].to_pylist() for note in row or ()}
    assert notes == {"prompt_mattr"}, "a column that is left out has no notes"
    assert not verify(tmp_path / "all").faults and read_rejects(tmp_path / "all") == read_rejects(tables / "whole")


def clustered(folder: Path) -> None:
    scores = random_scores(40)
    column = COLUMNS[0].__class__("cluster", pa.int32(), "label", "cluster").of_metric("cluster", 1, {"k": 2})
    make_table(folder, {**scores, "cluster": [row % 2 for row in range(40)]}, [COLUMNS[3], column], rows=40)


def test_what_was_learned_from_each_table_is_not_mixed(tmp_path):
    """Two clusterings with the same settings have one fingerprint, and numbers that mean nothing to each other."""
    for name in ("one", "two"):
        clustered(tmp_path / name)
    message = curricle("concat", tmp_path / "one", tmp_path / "two", "--output", tmp_path / "all", code=2)
    assert "cluster: learned from the rows of each table" in message
    for name, rest in (("hard", ()), ("rest", ("--complement",))):
        curricle("select", tmp_path / "one", "--output", tmp_path / name, "--take", "hard", "--by", "loss", "--count",
                 15, *rest)  # fmt: skip
    curricle("concat", tmp_path / "hard", tmp_path / "rest", "--output", tmp_path / "all")
    assert read_data(tmp_path / "all").equals(read_data(tmp_path / "one"))


def test_records_that_were_read_otherwise_are_refused(tables, tmp_path, monkeypatch):
    from curricle.curate import reading

    monkeypatch.setattr(reading, "FORMATS_VERSION", VERSION + 1)
    curricle("score", tables / "b.jsonl", "--output", tmp_path / "later", *METRICS)
    message = curricle("concat", tables / "one", tmp_path / "later", "--output", tmp_path / "all", code=2)
    assert f"reading.formats_version: {VERSION} there, {VERSION + 1} now" in message


def test_what_cannot_be_put_together_is_refused(tables, tmp_path):
    assert "fewer than two tables" in curricle("concat", tables / "one", "--output", tmp_path / "all", code=2)
    assert "is named twice" in curricle("concat", tables / "one", f"{tables}/one/", "--output", tmp_path / "a", code=2)
    assert "is the table itself" in curricle("concat", tables / "one", tables / "two", "--output", tables / "one",
                                             code=2)  # fmt: skip
    with pytest.raises(UsageError, match="there is no manifest"):
        pipelines.concat([tables / "one", tmp_path], tmp_path / "all")
    shutil.copytree(tables / "two", tmp_path / "two")
    part = next((tmp_path / "two" / "data").iterdir())
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    curricle("concat", tables / "one", tmp_path / "two", "--output", tmp_path / "all", code=1)
    assert not (tmp_path / "all").exists()


def test_verify_counts_the_tables_that_it_was_made_of(tables, tmp_path):
    pipelines.concat([tables / "one", tables / "two"], tmp_path / "all")
    path = tmp_path / "all" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["concatenated_from"][0]["rows"] += 1
    path.write_text(json.dumps(manifest))
    assert any("60 rows are there, and the tables that it was made of have 61" in fault
               for fault in verify(tmp_path / "all").faults)  # fmt: skip


def test_hostile_sources_and_other_tables_survive(tmp_path):
    make_table(tmp_path / "a", random_scores(30), rows=30, rejects=[("not JSON", "<b>")] * 2)
    pipelines.select(tmp_path / "a", tmp_path / "x", take="random", fraction=0.3)
    pipelines.select(tmp_path / "a", tmp_path / "y", take="random", fraction=0.3, complement=True)
    pipelines.concat([tmp_path / "x", tmp_path / "y"], tmp_path / "all")
    assert read_data(tmp_path / "all").equals(read_data(tmp_path / "a"))
    assert {source.source for source in read_manifest(tmp_path / "all").sources} == {*SOURCES}
