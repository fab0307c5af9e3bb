"""`curricle select --split` and `--complement`: sets from one command, each a table with a certificate of its own."""

import gzip
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from clusters import until_true
from curricle import pipelines
from curricle.curate.selection.near_duplicates import grams
from curricle.schemas.common.errors import UsageError
from running import curricle, read_data, signed, start, write_jsonl

ROWS = 300
SHARES = ["--split", "train=0.8,tuning=0.1,judging=0.1"]
NAMES = ["train", "tuning", "judging"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    rows = [{"prompt": f"Count to {row}.", "completion": " ".join(map(str, range(row)))} for row in range(1, ROWS + 1)]
    write_jsonl(folder / "in.jsonl", rows)
    curricle("score", folder / "in.jsonl", "--output", folder / "out", "--metrics", "length")
    return folder / "out"


@pytest.fixture(scope="module")
def sets(scored, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("split") / "sets"
    printed = curricle("select", scored, "--output", out, *SHARES)
    assert "split by example: 300 rows in 300 groups, the largest of 1" in printed
    assert "train: 240 rows in 240 groups, 80.00% (80.00% asked)" in printed
    return out


def ids(table: Path) -> list[str]:
    return read_data(table)["example_id"].to_pylist()


def test_each_set_is_a_table_with_a_certificate(scored, sets):
    whole = read_data(scored)
    for name in NAMES:
        assert "whole; 300 rows of a table" in curricle("verify", sets / name)
        assert "the same to the last value" in curricle("select", "--check", sets / name)
        part = read_data(sets / name)
        assert part.schema.equals(whole.schema, check_metadata=True)
        assert signed(sets / name)["fingerprint"] == signed(scored)["fingerprint"]
        certificate = json.loads((sets / name / "certificate.json").read_text())
        assert certificate["certificate"] == 3 and certificate["recipe"]["split_only"] == name
        assert certificate["steps"][-1]["left"] == certificate["selected"] == part.num_rows
    assert sorted(identity for name in NAMES for identity in ids(sets / name)) == sorted(ids(scored))
    assert [read_data(sets / name).num_rows for name in NAMES] == [240, 30, 30]


def test_one_set_alone_is_the_same(scored, sets, tmp_path):
    curricle("select", scored, "--output", tmp_path / "one", *SHARES, "--split-only", "tuning")
    assert signed(tmp_path / "one") == signed(sets / "tuning")


def test_a_function_is_beside_the_command(scored, sets, tmp_path):
    manifests = pipelines.split(
        scored, tmp_path / "sets", {"train": 0.8, "tuning": 0.1, "judging": "1/10"}, by="example"
    )
    assert [manifest.total.scored for manifest in manifests.values()] == [240, 30, 30]
    assert ids(tmp_path / "sets" / "judging") == ids(sets / "judging")
    with pytest.raises(UsageError, match=r"pipelines\.split"):
        pipelines.select(scored, tmp_path / "other", split=["a=0.5", "b=0.5"])


def test_the_same_command_again_does_nothing_and_another_is_refused(scored, sets, tmp_path):
    out = Path(shutil.copytree(sets, tmp_path / "sets"))
    before = {name: (out / name / "manifest.json").stat().st_mtime_ns for name in NAMES}
    curricle("select", scored, "--output", out, *SHARES)
    assert {name: (out / name / "manifest.json").stat().st_mtime_ns for name in NAMES} == before
    message = curricle("select", scored, "--output", out, *SHARES, "--seed", 1, code=2)
    assert "recipe.seed: 0 there, 1 now" in message and "--overwrite" in message
    other = ["--split", "train=0.5,judging=0.5", "--overwrite"]
    assert "a table 'tuning', which is none of --split" in curricle("select", scored, "--output", out, *other, code=2)
    assert {name: (out / name / "manifest.json").stat().st_mtime_ns for name in NAMES} == before
    curricle("select", scored, "--output", out, *SHARES, "--seed", 1, "--overwrite")
    assert sorted(identity for name in NAMES for identity in ids(out / name)) == sorted(ids(scored))
    assert ids(out / "judging") != ids(sets / "judging")


def test_all_sets_are_checked_at_once(scored, sets, tmp_path):
    assert "the same to the last value" in curricle("select", "--check", sets)
    out = Path(shutil.copytree(sets, tmp_path / "sets"))
    assert pipelines.check_selection(out) == []
    shutil.rmtree(out / "tuning")
    assert pipelines.check_selection(out) == ["tuning is not there"]
    curricle("select", scored, "--output", out / "tuning", *SHARES, "--split-only", "tuning", "--seed", 1)
    assert pipelines.check_selection(out) == ["judging and tuning are of two splits: seed: 0 there, 1 now"]
    shutil.rmtree(out / "tuning")
    shutil.copytree(out / "train", out / "tuning")
    assert pipelines.check_selection(out) == ["tuning is the set 'train'"]
    change = (out / "judging" / "certificate.json").read_text().replace('"selected": 30', '"selected": 31')
    (out / "judging" / "certificate.json").write_text(change)
    assert "WRONG  judging: certificate.json: the bytes" in curricle("select", "--check", out, code=1)


def test_a_changed_share_fails(sets, tmp_path):
    judging = Path(shutil.copytree(sets / "judging", tmp_path / "judging"))
    certificate = json.loads((judging / "certificate.json").read_text())
    certificate["recipe"]["split"] = ["train=0.7", "tuning=0.2", "judging=0.1"]
    (judging / "certificate.json").write_text(json.dumps(certificate))
    assert "the bytes are not those" in curricle("select", "--check", judging, code=1)


def test_a_split_that_is_killed_is_gone_on_with(scored, sets, tmp_path):
    process = start("select", scored, "--output", "sets", *SHARES, cwd=tmp_path)
    until_true(lambda: (tmp_path / "sets" / "train" / "_progress").exists(), "a set is begun")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    curricle("select", scored, "--output", "sets", *SHARES, cwd=tmp_path)
    for name in NAMES:
        assert signed(tmp_path / "sets" / name) == signed(sets / name)
        curricle("verify", tmp_path / "sets" / name)


@pytest.mark.parametrize("gone", [["judging"], ["train/manifest.json", "tuning/data"]])
def test_what_a_kill_leaves_is_completed_by_the_same_command(scored, sets, tmp_path, gone):
    out = Path(shutil.copytree(sets, tmp_path / "sets"))
    for name in gone:
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    if gone[-1].endswith("data"):
        assert "not as it was written" in curricle("select", scored, "--output", out, *SHARES, code=2)
    curricle("select", scored, "--output", out, *SHARES, *["--overwrite"] * gone[-1].endswith("data"))
    assert {name: signed(out / name) for name in NAMES} == {name: signed(sets / name) for name in NAMES}


def test_a_selection_that_was_begun_before_splits_goes_on(scored, tmp_path):
    """Plans and certificates of what has neither are as they were, byte for byte."""
    command = ["select", scored, "--output", tmp_path / "out", "--take", "random", "--count", 20]
    curricle(*command)
    plan = json.loads((tmp_path / "out" / "_progress" / "plan.json").read_text())
    assert plan["certificate"] == 2
    assert [*plan["recipe"]] == [
        *("join", "where", "distinct", "near_duplicates", "near_duplicates_of", "take", "by", "count", "fraction"),
        *("part", "per", "shares", "temperature", "seed"),
    ]


def test_the_complement_has_the_other_rows(scored, tmp_path):
    rules = ["--take", "high", "--by", "response_words", "--count", 40]
    curricle("select", scored, "--output", tmp_path / "longest", *rules)
    printed = curricle("select", scored, "--output", tmp_path / "rest", *rules, "--complement")
    assert "complement: 260 of 300 rows" in printed
    assert sorted(ids(tmp_path / "longest") + ids(tmp_path / "rest")) == sorted(ids(scored))
    assert "whole" in curricle("verify", tmp_path / "rest")
    curricle("select", "--check", tmp_path / "rest")
    message = curricle(
        "select", scored, "--output", tmp_path / "none", "--where", "response_words > 0", "--complement", code=2
    )
    assert "the rules take every row" in message


def test_sets_that_would_be_empty_or_lie_in_a_table_are_refused(scored, tmp_path):
    command = ["select", scored, "--output", tmp_path / "out", "--split", "a=0.999,b=0.001"]
    assert "no row is left for 'b' of --split" in curricle(*command, code=2)
    assert "no row is left for 'b' of --split" in curricle(*command, "--split-only", "b", code=2)
    assert not (tmp_path / "out").exists()
    inside = Path(shutil.copytree(scored, tmp_path / "table"))
    assert "is a table" in curricle("select", scored, "--output", inside, *SHARES, code=2)
    (tmp_path / "mine" / "judging").mkdir(parents=True)
    (tmp_path / "mine" / "judging" / "thesis.txt").touch()
    assert "holds other files" in curricle("select", scored, "--output", tmp_path / "mine", *SHARES, code=2)
    assert not (tmp_path / "mine" / "train").exists()


def test_sets_are_written_to_an_object_store(scored, sets, tmp_path, s3):
    out = f"s3://{s3}/sets"
    curricle("select", scored, "--output", out, *SHARES)
    assert "whole; 300 rows of a table = 30 selected" in curricle("verify", f"{out}/judging")
    curricle("select", "--check", f"{out}/tuning")
    other = ["--split", "train=0.5,judging=0.5", "--overwrite"]
    assert "a table 'tuning', which is none of --split" in curricle("select", scored, "--output", out, *other, code=2)


def lines_of(path: Path, rows: int) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(rows), strict=False)]


def test_real_rows_that_are_doubled_or_nearly_so_are_on_one_side(shared_data, tmp_path):
    """T0 asks for one thing by several templates, with the same article in each. A split by example does part them."""
    names = ["ag_news_classify", "ag_news_classify_with_choices", "quoref_Find_Answer"]
    rows = [row for name in names for row in lines_of(shared_data / "t0" / f"{name}.jsonl.gz", 60)]
    write_jsonl(tmp_path / "in.jsonl", rows + rows[100:110])
    curricle("score", tmp_path / "in.jsonl", "--output", tmp_path / "scored", "--metrics", "length")
    split = ["select", tmp_path / "scored", "--split", "train=0.5,judging=0.5", "--output"]
    curricle(*split, tmp_path / "near", "--split-by", "near_duplicates", "--split-threshold", 0.6)
    curricle(*split, tmp_path / "apart")
    certificate = json.loads((tmp_path / "near" / "train" / "certificate.json").read_text())
    assert certificate["steps"][-1]["groups"] < 150
    curricle("select", "--check", tmp_path / "near" / "judging")

    def near(folder: Path) -> int:
        """Pairs of a row of either set that are nearly the same, each with each."""
        train, judging = (
            [
                grams([[turn["content"] for turn in turns]]).values
                for turns in read_data(folder / name)["messages"].to_pylist()
            ]
            for name in ("train", "judging")
        )
        pairs = [(len(np.intersect1d(one, other)), len(one) + len(other)) for one in train for other in judging]
        return sum(both / (total - both) >= 0.6 for both, total in pairs)

    assert {*ids(tmp_path / "near" / "train")}.isdisjoint(ids(tmp_path / "near" / "judging"))
    assert near(tmp_path / "near") == 0
    assert near(tmp_path / "apart") > 5  # the leak is really there without groups
