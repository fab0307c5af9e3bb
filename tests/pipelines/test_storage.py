"""A table on a disk and in an object store: writes are whole or absent, and one job holds it."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from clusters import until_true
from curricle.pipelines.scoring import finish
from curricle.pipelines.storage import objects, open_storage
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.writer import write_parts
from curricle.schemas.common.errors import DirectoryLocked, UsageError, UserError
from curricle.schemas.table import table_schema
from running import curricle, read_data, signed, start, write_jsonl


@pytest.fixture
def bucket(s3):
    """An empty prefix in a bucket."""
    return f"s3://{s3}/table"


@pytest.fixture(params=["disk", "objects"])
def storage(request, tmp_path):
    return open_storage(str(tmp_path / "table") if request.param == "disk" else request.getfixturevalue("bucket"))


def test_a_file_is_there_whole_or_not_at_all(storage):
    assert not storage.exists("a/b.txt") and storage.names("") == []
    with pytest.raises(FileNotFoundError):
        storage.read("a/b.txt")
    with pytest.raises(ZeroDivisionError), storage.writing("a/b.txt") as path:
        path.write_text("half")
        raise ZeroDivisionError
    assert storage.names("") == []
    with storage.writing("a/b.txt") as path:
        path.write_text("whole")
        assert not storage.exists("a/b.txt")
    assert storage.read("a/b.txt") == b"whole"
    storage.write("a/c.txt", b"1")
    storage.write("a/c.txt", b"2")
    with storage.local("a/c.txt") as path:
        assert path.read_text() == "2"
    storage.move("a/c.txt", "d/c.txt")
    assert storage.names("") == ["a/b.txt", "d/c.txt"] and storage.names("a") == ["a/b.txt"]
    storage.remove("a")
    storage.remove("nothing")
    storage.remove("d/c.txt")
    assert storage.names("") == []


def test_nothing_is_changed_outside(storage):
    storage.write("a", b"1")
    outside = open_storage(storage.uri("").removesuffix("/") + "-beside")
    outside.write("b", b"2")
    beside = outside.uri("b").rstrip("/").split("/")[-2]
    for name in (f"../{beside}/b", f"a/../../{beside}", outside.uri("b"), f"/{beside}", "", "."):
        for change in (
            lambda name: storage.remove(name),
            lambda name: storage.write(name, b"3"),
            lambda name: storage.writing(name).__enter__(),
            lambda name: storage.move("a", name),
            lambda name: storage.move(name, "c"),
        ):
            if "://" not in name:  # in a store an address is a name as any other
                with pytest.raises(UserError, match="leaves the directory"):
                    change(name)
    assert storage.names("") == ["a"] and outside.read("b") == b"2"


def test_one_of_many_gets_the_lock(storage):
    got, refused, over = [], [], threading.Event()

    def take(number: int) -> None:
        try:
            with storage.locked("_progress/holder.json", {"pid": number, "beat": 0}) as renew:
                got.append(number)
                beat = 0
                while not over.wait(0.1):
                    renew({"pid": number, "beat": (beat := beat + 1)})
        except DirectoryLocked:
            refused.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    until_true(lambda: len(got) + len(refused) == 5, "one has the lock, and four do not")
    over.set()
    for thread in threads:
        thread.join()
    assert len(got) == 1 and len(refused) == 4
    with storage.locked("_progress/holder.json", {"pid": 9}):  # at once: the one before gave it back
        assert json.loads(storage.read("_progress/holder.json"))["pid"] == 9


def test_a_dead_holder_is_replaced_and_finds_out(bucket, monkeypatch):
    """A lease has no process to go with: it ends when nobody has renewed it for long enough."""
    monkeypatch.setattr(objects, "LEASE", 0.6)
    storage = open_storage(bucket)
    with pytest.raises(DirectoryLocked), storage.locked("holder.json", {"run": "one", "beat": 0}) as renew:
        renew({"run": "one", "beat": 1})
        with storage.locked("holder.json", {"run": "two", "beat": 0}):
            renew({"run": "one", "beat": 2})
    assert not storage.exists("holder.json")


def test_a_renewal_whose_answer_was_lost_is_no_takeover(bucket):
    storage = open_storage(bucket)
    holder = {"run": "mine", "pid": 1, "beat": 0}
    with storage.locked("holder.json", holder) as renew:
        storage.write("holder.json", json.dumps({**holder, "beat": 1}).encode())  # it arrived, and its answer did not
        renew({**holder, "beat": 2})
        renew({**holder, "beat": 3})
        assert json.loads(storage.read("holder.json"))["beat"] == 3
    assert not storage.exists("holder.json")


def test_a_job_that_lost_its_hold_leaves_the_others_table_alone(storage):
    """It was asleep while it compacted: another took over and finished."""
    directory = OutputDirectory(storage.uri("").rstrip("/"))
    schema = table_schema([], "f" * 32)

    def lost() -> Iterator[pa.Table]:
        storage.write("_progress/holder.json", b'{"run": "of another", "pid": 7}')
        storage.write("data/part-00000-of-00001.parquet", b"the other's")
        yield schema.empty_table()

    with directory.held() as run, pytest.raises(DirectoryLocked, match="process 7"):
        write_parts(directory, run, "data", lost(), schema)
    assert storage.read("data/part-00000-of-00001.parquet") == b"the other's"


def test_workers_of_a_lost_run_cannot_commit(storage):
    directory = OutputDirectory(storage.uri("").rstrip("/"))
    with directory.held() as run:
        directory.check_held_by(run)
        directory.write_json("_progress/holder.json", {"run": "of another", "pid": 7})
        with pytest.raises(DirectoryLocked, match="process 7"):
            directory.check_held_by(run)


def test_a_store_that_cannot_be_reached_says_so(bucket, monkeypatch):
    with pytest.raises(UserError, match="s3://there-is-no-such-bucket"):
        open_storage("s3://there-is-no-such-bucket/x").write("a", b"")
    with pytest.raises(UsageError, match="cannot write to ftp://"):
        open_storage("ftp://host/x")


def test_a_job_on_an_object_store_is_killed_and_goes_on(bucket, alpaca_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "LEASE", 1.0)
    write_jsonl(tmp_path / "in.jsonl", alpaca_rows(1200))
    options = ("--metrics", "mtld", "--shard-rows", 150)
    curricle("score", "in.jsonl", "--output", "here", *options, cwd=tmp_path)
    storage = open_storage(bucket)
    process = start("score", "in.jsonl", "--output", bucket, *options, cwd=tmp_path)
    until_true(lambda: len(storage.names("_progress/receipts")) >= 3, "three shards are finished")
    message = curricle("status", bucket)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert f"process {process.pid} on" in message and "of 8 shards are finished" in message, message
    before = {name: storage.read(name) for name in storage.names("_progress/receipts")}
    assert before and not storage.exists("manifest.json")

    curricle("score", "in.jsonl", "--output", bucket, *options, cwd=tmp_path)
    assert all(storage.read(name) == receipt for name, receipt in before.items())
    assert "whole; 1,200 records" in curricle("verify", bucket)
    copy = Path(tmp_path, "copy")
    for name in storage.names(""):
        with storage.local(name) as path:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(path.read_bytes())
    assert signed(copy) == signed(tmp_path / "here")
    assert read_data(copy).equals(read_data(tmp_path / "here"))
    assert {name.partition("/")[0] for name in storage.names("")} == {
        "README.md", "_progress", "data", "manifest.json", "report.html",
    }  # fmt: skip
    assert "already scored" in curricle("score", "in.jsonl", "--output", bucket, *options, cwd=tmp_path)


def test_a_receipt_and_a_table_on_a_store_without_rename(storage, tmp_path, monkeypatch):
    """What is damaged is withdrawn, and an old table verifies until the new one does, wherever an exchange ends."""
    path = storage.uri("").rstrip("/")
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": f"say {n}", "completion": f"it is {n}"} for n in range(20)])
    score_by = ("score", tmp_path / "in.jsonl", "--output", path, "--shard-rows", 8, "--metrics")

    def stopped(target: object, name: str, call: int) -> str:
        original, calls = getattr(target, name), iter(range(10**6))

        def counted(*arguments, **options):
            if next(calls) == call:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(target, name, counted)
            return curricle(*command, code=1)

    command = (*score_by, "mtld")
    stopped(finish, "compact", 0)
    receipt = storage.names("_progress/receipts")[1]
    storage.write(receipt, storage.read(receipt).replace(b'"read": 8', b'"read": 9'))
    assert f"{receipt}: the receipt is damaged" in curricle(*command)
    assert "whole; 20 records" in curricle("verify", path)
    old = storage.read("manifest.json")
    # of another column, because two manifests of the same table that are made within a second may be the same bytes
    command = (*score_by, "mtld,length", "--overwrite")
    for call in (0, 1, 0, 1, 0):  # before the new table is there, and again and again while it is published
        stopped(type(storage), "move", call)
        assert "whole; 20 records" in curricle("verify", path)
    curricle(*command)
    assert "whole; 20 records" in curricle("verify", path) and storage.read("manifest.json") != old
    assert not storage.names("_progress/next")
