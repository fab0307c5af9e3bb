"""Every kind of bad input ends in a reject with its reason, or in an error before anything is written."""

import os
from pathlib import Path

import pytest
from bad_inputs import CORPUS, BadInput
from curricle.pipelines.cli import main
from curricle.schemas.manifest import read_manifest
from curricle.schemas.verify import verify
from running import curricle, read_rejects, start, write_jsonl

GOOD = {"instruction": "Say hi.", "output": "Hi."}


def test_the_corpus_is_large():
    assert len({bad.name for bad in CORPUS}) >= 40


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.name)
def test_through_the_command(bad: BadInput, tmp_path: Path, capfd):
    folder = tmp_path / "in"
    folder.mkdir()
    file = bad.make(folder)
    # in this process: an interpreter and an engine a kind would take minutes, and nothing here depends on it
    code = main(
        ["score", str(file), "--output", str(tmp_path / "out"), "--metrics", "mtld", "--max-reject-fraction", "1"]
    )
    message = capfd.readouterr().err
    if bad.outcome == "error":
        assert code == 2, message
        assert bad.expect in message
        assert str(file) in message, "the error names the file"
        assert "What to do" in message
        assert not (tmp_path / "out").exists(), "something was written"
        return
    assert code == 0, message
    total = read_manifest(tmp_path / "out").total
    assert (total.scored, total.rejected) == (bad.good, bad.rejected)
    assert total.read == bad.good + bad.rejected
    assert not verify(tmp_path / "out").faults
    reasons = [reject["reason"] for reject in read_rejects(tmp_path / "out")]
    assert len(reasons) == bad.rejected
    if bad.rejected:
        assert any(bad.expect in reason for reason in reasons), reasons
    assert all(len(reject["raw"]) <= 2000 for reject in read_rejects(tmp_path / "out"))


def test_too_many_rejects_are_exit_code_3(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"instruction": "a", "output": "b"}\nno\nno\n')
    message = curricle("score", tmp_path / "in.jsonl", "--output", tmp_path / "out", "--metrics", "mtld", code=3)
    assert "66.7%" in message and "--max-reject-fraction" in message
    assert "whole" in curricle("verify", tmp_path / "out")


def test_file_that_vanishes_while_it_is_read(tmp_path, alpaca_rows):
    """The survey saw it, a worker does not: the job fails by name, and goes on when the file is back."""
    first = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(2000))
    second = write_jsonl(tmp_path / "b.jsonl", alpaca_rows(2000))
    arguments = ("score", first, second, "--output", tmp_path / "out", "--metrics", "mattr", "--shard-rows", 100)
    process = start(*arguments)
    while not list((tmp_path / "out" / "_progress" / "receipts").glob("*")) and process.poll() is None:
        pass
    second.rename(tmp_path / "away")
    message, _ = process.communicate(timeout=120)
    assert process.returncode == 1, message
    assert str(second) in message and "What to do" in message
    assert not (tmp_path / "out" / "manifest.json").exists()
    (tmp_path / "away").rename(second)
    curricle(*arguments)
    assert "4,000 scored" in curricle("verify", tmp_path / "out")


def test_several_inputs_and_folders(tmp_path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    write_jsonl(tmp_path / "data" / "deep" / "a.jsonl", [GOOD])
    write_jsonl(tmp_path / "data" / "b.jsonl", [GOOD, GOOD])
    (tmp_path / "data" / "notes.txt").write_text("left out")
    message = curricle("score", "data", "data/*.jsonl", "--output", "out", "--metrics", "mtld", cwd=tmp_path)
    assert "notes.txt" in message
    manifest = read_manifest(tmp_path / "out")
    assert {source.source: source.read for source in manifest.sources} == {"data/b.jsonl": 2, "data/deep/a.jsonl": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.jsonl"], "--output is required"),
        (["in.jsonl", "--output", "in.jsonl"], "is a file"),
        (["absent.jsonl", "--output", "out"], "no such file"),
        (["in.jsonl", "--output", "out", "--metrics", "mtdl"], "mtld"),
        (["in.jsonl", "--output", "out", "--format", "alpace"], "alpaca"),
        (["in.jsonl", "--output", "out", "--prompt-field", "instruction"], "--response-field"),
        (["in.jsonl", "--output", "out", "--workers", "0"], "--workers"),
        (["in.jsonl", "--output", "out", "--shard-row", "5"], "--shard-rows"),
        (["in.jsonl", "--output", "out", "--proxy.modell", "x"], "--proxy.model"),
        (["in.jsonl", "--output", "out", "--proxy.backend", "onnx"], "transformers"),
        (["in.jsonl", "--output", "taken"], "holds other files"),
        (["empty", "--output", "out"], "no file that can be read"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_writes_nothing(tmp_path, arguments, message):
    write_jsonl(tmp_path / "in.jsonl", [GOOD])
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("mine")
    before = sorted(path for path in tmp_path.rglob("*"))
    assert message in curricle("score", *arguments, cwd=tmp_path, code=2)
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_directory(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [GOOD])
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot be written" in curricle("score", "in.jsonl", "--output", "locked/out", cwd=tmp_path, code=2)


def test_a_users_own_data_folder_is_never_taken_for_ours(tmp_path):
    """A project that has data/ and README.md is no output directory."""
    (tmp_path / "proj" / "data").mkdir(parents=True)
    raw = write_jsonl(tmp_path / "proj" / "data" / "raw.jsonl", [GOOD])
    (tmp_path / "proj" / "README.md").write_text("mine")
    message = curricle("score", "proj/data", "--output", "proj", "--metrics", "mtld", cwd=tmp_path, code=2)
    assert "there is no such file" in message or "holds other files" in message or "no file that can be read" in message
    assert raw.exists() and (tmp_path / "proj" / "README.md").read_text() == "mine"


def test_output_inside_the_input_folder_is_not_read(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [GOOD])
    arguments = ("score", ".", "./a.jsonl", "--output", "scored", "--metrics", "mtld")
    curricle(*arguments, cwd=tmp_path)
    assert "already scored" in curricle(*arguments, cwd=tmp_path)
    assert read_manifest(tmp_path / "scored").total.read == 1


@pytest.mark.parametrize(
    ("output", "message"),
    [("", "--output"), ("ftp://host/out", "cannot write to ftp://"), ("s3://b/out", "credentials")],
)
def test_output_that_cannot_be(tmp_path, output, message, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    write_jsonl(tmp_path / "in.jsonl", [GOOD])
    assert message in curricle("score", "in.jsonl", "--output", output, "--metrics", "mtld", cwd=tmp_path, code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
