"""Formats and engines of others, those of docs/extend.md: as a job uses them, in this process and in workers."""

import hashlib
import pickle

import pytest
from curricle.curate import read as read_inputs
from curricle.curate.formats import named
from curricle.pipelines.scoring.plan import read_plan
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.schemas.common.errors import UserError
from pages import block
from running import curricle, in_process_of_its_own, read_data, read_rejects, write_jsonl

_, FORMAT = block("docs/extend.md", "format")
_, ENGINE = block("docs/extend.md", "engine")
RECORDS = [{"q": "Hi", "a": "Hello", "by": 1}, {"q": "bad", "a": "", "by": 2}, {"q": "Why?", "a": "So.", "by": 3}]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my.py").write_text(FORMAT)
    (tmp_path / "engines.py").write_text(ENGINE)
    write_jsonl(tmp_path / "in.jsonl", RECORDS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


ARGUMENTS = ("score", "in.jsonl", "--output", "out", "--metrics", "mtld", "--format", "./my.py:QA")
MANY = ("--max-reject-fraction", 1)


def test_a_format_from_a_file_reads_records_here_and_in_workers(folder):
    in_process_of_its_own(*ARGUMENTS, *MANY, "--workers", 2, "--shard-rows", 2, cwd=folder)
    examples, rejects = read_inputs("in.jsonl", format="./my.py:QA")
    table = read_data(folder / "out")
    assert table.select(examples.schema.names[:5]).equals(examples.drop(["notes"]))
    assert rejects.to_pylist() == read_rejects(folder / "out")
    assert rejects["reason"].to_pylist() == ["a bad question"]


def test_the_plan_says_which_format_read_the_records(folder):
    curricle(*ARGUMENTS, *MANY)
    digest = hashlib.sha256(FORMAT.encode()).hexdigest()
    plan = read_plan(OutputDirectory("out"))
    assert plan and plan.reading["format"] == {"name": "qa", "file": "my.py", "sha256": digest}
    assert "nothing to do" in curricle(*ARGUMENTS, *MANY)
    (folder / "my.py").write_text(FORMAT + "# changed\n")
    message = curricle(*ARGUMENTS, *MANY, code=2)
    assert "format.sha256" in message and digest in message


def test_a_format_travels_as_where_it_is_from(folder):
    sent = pickle.dumps(named("./my.py:QA"))
    assert str(folder / "my.py").encode() in sent
    assert pickle.loads(sent).name == "qa"
    (folder / "my.py").write_text(FORMAT + "# changed\n")
    with pytest.raises(UserError, match="another format there than the driver") as error:
        pickle.loads(sent)
    assert error.value.where == f"{folder}/my.py:QA" and "install the format everywhere" in str(error.value)
    (folder / "my.py").unlink()
    with pytest.raises(UserError, match="a worker cannot load the format: cannot be read: No such file"):
        pickle.loads(sent)


@pytest.mark.parametrize("where", ["matches", "read"])
def test_a_format_that_fails_is_named_with_the_file_and_the_record(folder, where):
    text = FORMAT.replace('"q" in record', '1 / (record["by"] - 1)') if where == "matches" else FORMAT
    (folder / "my.py").write_text(text)
    write_jsonl(folder / "in.jsonl", [*RECORDS[(where == "read") :], {"q": "no answer"}])
    message = curricle(*ARGUMENTS, code=1)
    failure = {
        "matches": "in.jsonl, object 1: failed: ZeroDivisionError",
        "read": "in.jsonl position 2: failed: KeyError",
    }
    assert f"format {folder}/my.py:QA" in message and failure[where] in message


def test_an_engine_from_a_file_runs_the_shards(folder):
    curricle(*ARGUMENTS, *MANY, "--shard-rows", 1, "--engine", "./engines.py:run")
    assert (folder / "ran").read_text() == "3" and read_data(folder / "out").num_rows == 2
    assert "unknown engine 'locall'" in curricle(*ARGUMENTS, "--engine", "locall", code=2)


def test_an_engine_that_leaves_shards_undone_is_found_out(folder, monkeypatch):
    monkeypatch.setattr("curricle.pipelines.commands.score._LOOK_EVERY", 0.01)
    (folder / "engines.py").write_text("def run(work):\n    pass\n")
    assert "have no receipt though the engine ended" in curricle(*ARGUMENTS, "--engine", "./engines.py:run", code=1)
