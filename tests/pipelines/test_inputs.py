"""Which files a job reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from curricle.curate.readers.inputs import FOLDER, HIDDEN, NO_FILE, NO_FORMAT, NOWHERE, READ_ALREADY
from curricle.pipelines.scoring.inputs import find_inputs, is_seekable, open_input
from curricle.schemas.common.errors import UsageError
from curricle.schemas.manifest import read_manifest
from curricle.schemas.verify import verify
from running import curricle, read_data, write_jsonl

GOOD = {"prompt": "a", "completion": "b"}
NAMES = (
    "one.jsonl",
    "deep/two.jsonl",
    "_SUCCESS/three.jsonl",
    "deep/.four.jsonl",
    ".five/six.jsonl",
    "out/data/7.jsonl",
    "out/_progress/8.jsonl",
)
LEFT_OUT = dict.fromkeys(("_SUCCESS/", "deep/.four.jsonl", ".five/"), HIDDEN)


def names(pattern: object, output: object) -> tuple[list[str], dict[str, str]]:
    """The files that are read, and what is not with the reason, by names below the folder."""
    files, not_read = find_inputs([str(pattern)], str(output))

    def below(name: str) -> str:
        return name.removeprefix(str(pattern)).lstrip("/")

    return [below(file.name) for file in files], {below(other.path): other.reason for other in not_read}


def test_hidden_names_in_a_folder_are_no_inputs(tmp_path: Path):
    root = tmp_path / "_mine"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(root / name, [GOOD])
    assert names(root, root / "out") == (["deep/two.jsonl", "one.jsonl"], LEFT_OUT)
    assert len(find_inputs([str(root / "_SUCCESS" / "three.jsonl")], "out")[0]) == 1, "what is named is read"


def test_hidden_names_in_a_bucket_are_no_inputs(s3: str):
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for name in NAMES:
        client.put_object(Bucket=s3, Key=f"_mine/{name}", Body=b"{}")
    for pattern in (f"s3://{s3}/_mine", f"s3://{s3}/_mine/"):
        assert names(pattern, f"s3://{s3}/_mine/out") == (["deep/two.jsonl", "one.jsonl"], LEFT_OUT)


def test_objects_are_read_by_one_client(s3: str, monkeypatch, tmp_path: Path):
    """Also while another is read, and by a new one where the environment leads elsewhere, or credentials are new."""
    import boto3
    import botocore.session

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for name in ("a", "b"):
        client.put_object(Bucket=s3, Key=name, Body=f"{name}\n".encode() * 9)
    calls, create = [], botocore.session.Session.create_client
    monkeypatch.setattr(
        botocore.session.Session,
        "create_client",
        lambda self, *given, **options: calls.append(given) or create(self, *given, **options),
    )
    with open_input(f"s3://{s3}/a") as one, open_input(f"s3://{s3}/b") as other:
        assert [one.readline(), other.readline(), one.read(), other.read()] == [b"a\n", b"b\n", b"a\n" * 8, b"b\n" * 8]
    assert len(calls) == 1
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with open_input(f"s3://{s3}/a") as one:
        assert one.read() == b"a\n" * 9
    assert len(calls) == 2
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for number, key in enumerate(("old", "newer"), 3):
        (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {key}\n")
        for name in ("a", "b"):
            open_input(f"s3://{s3}/{name}").close()
        assert len(calls) == number
    with pytest.raises(FileNotFoundError):
        open_input(f"s3://{s3}/absent")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there, and any bytes")
def test_a_name_that_is_no_text_is_refused(tmp_path: Path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jsonl", "w") as file:
        file.write("{}")
    with pytest.raises(UsageError, match="not UTF-8") as error:
        find_inputs([str(tmp_path)], "out")
    str(error.value).encode()
    assert "caf\\udce9.jsonl" in str(error.value)


@pytest.mark.parametrize(
    ("name", "free"), [("a.jsonl", True), ("a.json", True), ("a.jsonl.gz", False), ("a.parquet", False)]
)
def test_where_reading_can_start_anywhere(name: str, free: bool):
    assert is_seekable(name) is free


def test_links_are_followed_once_and_what_they_leave_out_is_named(tmp_path: Path):
    root, elsewhere = tmp_path / "in", tmp_path / "elsewhere" / "deep"
    root.mkdir()
    elsewhere.mkdir(parents=True)
    write_jsonl(root / "b.jsonl", [GOOD])
    write_jsonl(elsewhere / "c.jsonl", [GOOD])
    write_jsonl(tmp_path / "d.jsonl", [GOOD])
    (root / "notes.txt").write_text("not data")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(tmp_path / "elsewhere")
    (elsewhere / "up").symlink_to(root)
    (elsewhere / "here").symlink_to(".")
    (root / "file.jsonl").symlink_to(tmp_path / "d.jsonl")
    (root / "a.jsonl").symlink_to("b.jsonl")
    (root / "fetch.jsonl").symlink_to("../annex/objects/SHA256.jsonl")
    os.mkfifo(root / "pipe.jsonl")
    read, left_out = names(root, tmp_path / "out")
    assert read == ["a.jsonl", "again/deep/c.jsonl", "file.jsonl"]
    assert left_out == {
        "b.jsonl": READ_ALREADY,
        "folder": READ_ALREADY,
        "again/deep/here": READ_ALREADY,
        "again/deep/up": READ_ALREADY,
        "fetch.jsonl": NOWHERE,
        "notes.txt": NO_FORMAT,
        "pipe.jsonl": NO_FILE,
    }


def test_a_folder_of_nothing_says_what_it_left_out(tmp_path: Path):
    (tmp_path / "fetch.jsonl").symlink_to("nowhere")
    with pytest.raises(UsageError, match="no file that can be read is in it; left out:") as error:
        find_inputs([str(tmp_path)], "out")
    assert f"fetch.jsonl: {NOWHERE}" in str(error.value)


@pytest.mark.parametrize("pattern", ["in/fetch.jsonl", "in/*.jsonl"])
def test_a_link_that_was_named_has_to_lead_somewhere(pattern: str, tmp_path: Path):
    (tmp_path / "in").mkdir()
    write_jsonl(tmp_path / "in" / "a.jsonl", [GOOD])
    (tmp_path / "in" / "fetch.jsonl").symlink_to("nowhere")
    with pytest.raises(UsageError, match="a link that leads nowhere") as error:
        find_inputs([str(tmp_path / pattern)], "out")
    assert error.value.where == str(tmp_path / "in" / "fetch.jsonl")


def test_a_folder_that_a_pattern_finds_is_named(tmp_path: Path):
    write_jsonl(tmp_path / "a.jsonl", [GOOD])
    (tmp_path / "more").mkdir()
    write_jsonl(tmp_path / "more" / "b.jsonl", [GOOD])
    files, not_read = find_inputs([str(tmp_path / "*")], "out")
    assert [(file.name, file.path) for file in files] == [("a.jsonl", str(tmp_path / "a.jsonl"))]
    assert [(other.path, other.reason) for other in not_read] == [("more", FOLDER)]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["day/a.jsonl", "more"], ["day/a.jsonl", "more/b.jsonl", "more/deep/c.jsonl"]),
        (["{}/day/a.jsonl"], ["a.jsonl"]),
        (["{}/more"], ["b.jsonl", "deep/c.jsonl"]),
        (["{}/more/deep"], ["c.jsonl"]),
        (["{}/*/*.jsonl"], ["day/a.jsonl", "more/b.jsonl"]),
        (["{}/day", "{}/more/b.jsonl"], ["day/a.jsonl", "more/b.jsonl"]),
        (["{}/day/a.jsonl", "more/deep"], ["day/a.jsonl", "more/deep/c.jsonl"]),
        (["{}/day/../day/a.jsonl"], ["a.jsonl"]),
    ],
)
def test_names_do_not_say_on_which_machine_inputs_lie(tmp_path: Path, monkeypatch, patterns, expected):
    """Relative names stay as they are given; of absolute ones, what all that was named has in common is left out."""
    for name in ("day/a.jsonl", "more/b.jsonl", "more/deep/c.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(tmp_path / name, [GOOD])
    monkeypatch.chdir(tmp_path)
    patterns = [pattern.format(tmp_path) for pattern in patterns]
    files, _ = find_inputs(patterns, "out")
    assert [file.name for file in files] == expected
    assert [Path(file.path).resolve().name for file in files] == [Path(name).name for name in expected]
    for file in find_inputs(patterns, "out", absolute=True)[0]:
        assert file.location == "" and os.path.samefile(file.name, file.path)


def test_a_table_knows_its_inputs_under_whatever_path(tmp_path: Path):
    """A table that was written with absolute names is still that of the same files, and asked for, they are there."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", [GOOD | {"prompt": name}])
    score = ("score", tmp_path / "in", "--metrics", "mtld", "--output")
    curricle(*score, tmp_path / "old", "--source-paths", "absolute")
    assert read_data(tmp_path / "old")["source"][0].as_py() == str(tmp_path / "in" / "a.jsonl")
    assert "nothing to do" in curricle(*score, tmp_path / "old")
    curricle(*score, tmp_path / "new")
    assert read_data(tmp_path / "new")["source"].to_pylist() == ["a.jsonl", "b.jsonl"]
    written = [path for path in (tmp_path / "new").rglob("*") if path.is_file() and path.name != "plan.json"]
    assert not [path for path in written if str(tmp_path).encode() in path.read_bytes()]
    (tmp_path / "in").rename(tmp_path / "moved")
    assert "nothing to do" in curricle("score", tmp_path / "moved", "--metrics", "mtld", "--output", tmp_path / "new")
    assert "nothing to do" in curricle("score", "moved", "--metrics", "mtld", "--output", "new", cwd=tmp_path)


def test_files_of_one_name_in_two_folders_are_two_inputs(tmp_path: Path):
    """Night after night the same name: the file of the second is not the first one, changed."""
    score = ("--metrics", "mtld", "--output", tmp_path / "table", "--append")
    for night in ("monday", "tuesday", "wednesday"):
        (tmp_path / night).mkdir()
        write_jsonl(tmp_path / night / "part.jsonl", [GOOD | {"prompt": night}])
        curricle("score", tmp_path / night / "part.jsonl", *score)
    sources = read_data(tmp_path / "table")["source"].to_pylist()
    assert sources == ["part.jsonl", "tuesday/part.jsonl", "wednesday/part.jsonl"]
    assert verify(str(tmp_path / "table")).faults == []
    assert "nothing to do" in curricle("score", tmp_path / "tuesday" / "part.jsonl", *score)
    write_jsonl(tmp_path / "monday" / "part.jsonl", [GOOD])
    assert "was changed" in curricle("score", tmp_path / "monday" / "part.jsonl", *score, code=2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path):
    write_jsonl(tmp_path / "a.jsonl", [GOOD])
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(UsageError, match="the folder cannot be read"):
        find_inputs([str(tmp_path)], "out")


def test_log_manifest_and_verify_name_what_a_folder_leaves_out(tmp_path: Path):
    (tmp_path / "in").mkdir()
    write_jsonl(tmp_path / "in" / "a.jsonl", [GOOD])
    write_jsonl(tmp_path / "in" / "_b.jsonl", [GOOD])
    (tmp_path / "in" / "c\n.jsonl").symlink_to("nowhere")
    message = curricle("score", "in", "--output", "out", "--metrics", "mtld", cwd=tmp_path)
    assert f"left out, {HIDDEN}: in/_b.jsonl" in message and f"left out, {NOWHERE}: in/c\\n.jsonl" in message
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["not_read"] == [
        {"path": "in/_b.jsonl", "reason": HIDDEN},
        {"path": "in/c\n.jsonl", "reason": NOWHERE},
    ]
    verified = curricle("verify", "out", cwd=tmp_path)
    assert "NOT READ  in/_b.jsonl" in verified and "whole; 1 record of 1 file = 1 scored" in verified
    (tmp_path / "in" / "c\n.jsonl").unlink()
    assert "already scored" in curricle("score", "in", "--output", "out", "--metrics", "mtld", cwd=tmp_path)


def test_what_is_not_followed_is_in_notes_and_in_the_log(tmp_path: Path):
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}]
    record = {"messages": turns, "context": "Ada wrote the first program."}
    write_jsonl(tmp_path / "a.jsonl", [record, {"messages": turns}, record])
    message = curricle("score", "a.jsonl", "--output", "out", "--metrics", "length", "--shard-rows", "1", cwd=tmp_path)
    note = "the field 'context' is in no turn; it is kept in extra"
    assert f"2 rows: {note}" in message
    assert [note in (row or []) for row in read_data(tmp_path / "out")["notes"].to_pylist()] == [True, False, True]


def test_no_value_of_the_environment_is_written(tmp_path):
    """Whatever the job writes, and whoever reads it: plan, receipts, manifest, table, card, report, Prometheus file."""
    secret = "s3cr3t-t0ken"
    data = tmp_path / secret
    data.mkdir()
    (data / f"{secret}.jsonl").write_text('{"prompt": "a", "completion": "b"}\nno JSON\n')
    (data / "left.out").write_text("")
    (tmp_path / "job.yaml").write_text(
        "inputs: ['${DATA}', '${DATA}/${TOKEN}.jsonl']\noutput: '${OUT}/scored'\nmetrics: [mtld]\n"
        "max-reject-fraction: 1\nworkers: 2\nprometheus-file: job.prom\n"
    )
    environment = {**os.environ, "DATA": str(data), "TOKEN": secret, "OUT": str(tmp_path / f"out-{secret}")}
    command = [sys.executable, "-P", "-m", "curricle.pipelines.cli", "score", "--config", "job.yaml"]
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}

    def score(**changed: str) -> subprocess.CompletedProcess:
        options = {"cwd": tmp_path, "env": {**environment, **path, **changed}, "text": True, "capture_output": True}
        return subprocess.run(command, **options)

    first = score()
    assert first.returncode == 0, first.stderr
    out = tmp_path / f"out-{secret}" / "scored"
    written = [tmp_path / "job.prom", *(path for path in out.rglob("*") if path.is_file())]
    assert {"manifest.json", "README.md", "report.html", "plan.json", "job.prom"} <= {path.name for path in written}
    for file in written:
        assert secret.encode() not in file.read_bytes(), file
    assert secret not in first.stdout + first.stderr
    rows = pq.read_table(out / "data")["source"].to_pylist() + pq.read_table(out / "rejects")["source"].to_pylist()
    assert rows == ["${TOKEN}.jsonl"] * 2
    assert 'output="${OUT}/scored"' in (tmp_path / "job.prom").read_text()
    assert verify(str(out)).faults == []
    assert "already scored" in score().stderr
    data.rename(tmp_path / "moved")  # the same bytes by the same name
    (tmp_path / "moved" / f"{secret}.jsonl").rename(tmp_path / "moved" / "other.jsonl")
    assert "already scored" in score(DATA=str(tmp_path / "moved"), TOKEN="other").stderr
    (tmp_path / "moved" / "other.jsonl").write_text('{"prompt": "a", "completion": "c"}\nno JSON\n')
    changed = score(DATA=str(tmp_path / "moved"), TOKEN="other")
    assert changed.returncode == 2 and "${TOKEN}.jsonl: was changed" in changed.stderr


def test_a_relative_name_in_another_working_directory_is_another_file(tmp_path: Path):
    """Of the same name, size and age: what is taken for a file that was read is data that is lost."""
    for night, word in (("one", "yes"), ("two", "not")):
        (tmp_path / night).mkdir()
        write_jsonl(tmp_path / night / "in.jsonl", [{"prompt": f"Say {word}", "completion": word}])
        os.utime(tmp_path / night / "in.jsonl", (1e9, 1e9))
    grow = ("score", "in.jsonl", "--output", tmp_path / "out", "--metrics", "mtld", "--append")
    curricle(*grow, cwd=tmp_path / "one")
    assert "in.jsonl: was changed" in curricle(*grow, cwd=tmp_path / "two", code=2)
    assert "nothing to do" in curricle(*grow, cwd=tmp_path / "one")
    (tmp_path / "one" / "in.jsonl").replace(tmp_path / "in.jsonl")
    assert "nothing to do" in curricle(*grow, cwd=tmp_path), "the same bytes, wherever they lie"


APPENDING = """
from curricle.pipelines.engines import Work, local

def run(work: Work) -> None:
    local.run(work)
    with open("in.jsonl", "a") as file:
        file.write('{"prompt": "Hello", "completion": "Again"}\\n')
"""


@pytest.mark.parametrize(
    ("option", "next_step"),
    [
        ((), "run the same command, or add --overwrite to"),
        (("--append",), "or give --overwrite instead of --append to"),
    ],
)
def test_a_file_that_is_still_being_written_is_named_with_what_to_do(tmp_path: Path, option, next_step):
    (tmp_path / "appending.py").write_text(APPENDING)
    write_jsonl(tmp_path / "in.jsonl", [GOOD])
    command = ("score", "in.jsonl", "--output", "out", "--metrics", "mtld", *option)
    message = curricle(*command, "--engine", "./appending.py:run", cwd=tmp_path, code=1)
    assert "the input was changed while it was scored" in message and "in.jsonl: was changed" in message
    assert next_step in message and "where it is still being written, let that end" in message
    assert not (tmp_path / "out" / "manifest.json").exists()
    curricle(*command[:6], "--overwrite", cwd=tmp_path)
    assert read_manifest(tmp_path / "out").total.scored == 2
