"""A job over very many objects of an object store, at a real S3 endpoint: every request is counted.

A few dozen here, and ten thousand in a soak.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Callable

import boto3
import drawn
import pytest
from curricle.pipelines import engines
from curricle.pipelines.scoring import plan
from curricle.pipelines.storage import open_storage
from running import curricle

FEW, MANY = (100, 10_000) if drawn.SOAK else (6, 24)
OF_A_SHARD = 8
"""Its file and its receipt are written, and read at the end; the lock is read twice; the worker's counters are written;
after a kill the receipt is read once more.
"""
OF_AN_INPUT = 4
"""Its size and its bytes, for the survey and for a worker: Beam asks for the size before it reads."""
OF_A_SIGN = 10
"""Every five seconds, however many there are: the lock is renewed, and counters are listed, read and published."""
FOLDERS = ("receipts", "shards", "holder.json", "live", "in")
PAGE = 1000
"""Objects that one request lists."""


@pytest.fixture
def requests(s3, monkeypatch) -> Callable[[], Counter[str]]:
    """What the endpoint has been asked since this was called last: ``GET receipts``, ``LIST in``, ``HEAD in`` …"""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, logger = Lines(), logging.getLogger("werkzeug")
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)

    def counted() -> Counter[str]:
        now, lines[:] = [*lines], []
        result: Counter[str] = Counter()
        for line in now:
            if request := re.search(r'"(?:\x1b\[[\d;]*m)*(\w+) /([^ ?]*)\S* HTTP', line):
                method, path = request.groups()
                prefix = re.search(r"[?&]prefix=([^& ]*)", line)
                path = f"{path}/{prefix[1]}" if prefix else path
                folder = next((name for name in FOLDERS if f"/{name}" in path), "")
                result[f"{'LIST' if prefix else method} {folder}".strip()] += 1
        return result

    return counted


def put(bucket: str, folder: str, count: int) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for number in range(count):
        body = f'{{"prompt": "q {number}", "completion": "a {number:05d}"}}\n'.encode()
        client.put_object(Bucket=bucket, Key=f"{folder}/in/{number:05d}.jsonl", Body=body)


def test_what_an_object_costs(s3, requests, monkeypatch):
    """Killed at half of it, looked at, and completed; whatever is asked of each is asked once, and listed by pages."""
    run = engines.run

    def half(work):
        run(engines.Work(work.directory, work.job, work.pending[: len(work.pending) // 2], work.run, work.check))

    monkeypatch.setattr("curricle.pipelines.commands.score._LOOKS", 0)
    counts = {}
    for count in (FEW, MANY):
        put(s3, str(count), count)
        where = f"s3://{s3}/{count}"
        arguments = ("score", f"{where}/in/", "--output", f"{where}/out", "--metrics", "mtld")
        requests()
        with monkeypatch.context() as patch:
            patch.setattr(engines, "run", half)
            curricle(*arguments, code=1)
        first = requests()
        assert f"{count // 2} of {count:,} shards are finished" in curricle("status", f"{where}/out")
        looking = requests()
        curricle(*arguments)
        counts[count] = first, looking, requests()
        assert f"whole; {count:,} records of {count:,} files" in curricle("verify", f"{where}/out")
    (_, _, before), (first, looking, rest) = counts[FEW], counts[MANY]
    assert first["HEAD in"] == first["GET in"] == MANY + MANY // 2, "surveyed, and half of them scored"
    assert rest["HEAD in"] == rest["GET in"] == MANY - MANY // 2, "the plan knows the others by name, size and time"
    assert rest["GET shards"] == MANY and not rest["HEAD shards"]
    assert rest["GET receipts"] == MANY + MANY // 2, "those that were there are held to the plan, and all are added up"
    assert looking["GET receipts"] == 0 and looking.total() < 25 + 2 * MANY / PAGE
    both = first + rest
    signs_of_life = both["PUT holder.json"]  # the longer it takes, the more
    assert both.total() < (OF_AN_INPUT + OF_A_SHARD) * MANY + 160 + OF_A_SIGN * signs_of_life
    pages = 1 + (MANY - 1) // PAGE
    for kind in ("LIST in", "LIST receipts", "LIST shards"):
        assert rest[kind] <= before[kind] * pages, kind


def test_inputs_that_moved_are_matched_without_looking_at_each_with_each(tmp_path, monkeypatch):
    """A folder of files of one size under other names: each is read once, and compared with those of its content."""
    kinds = Counter()
    kind_of = plan.kind_of

    def counted(name, readers):
        kinds[name] += 1
        return kind_of(name, readers)

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(60):
            name = f"{number if folder == 'a' else 99 - number:02d}-{folder}.jsonl"
            text = f'{{"prompt": "q", "completion": "a {number:02d}"}}\n'
            (tmp_path / folder / name).write_text(text)
    curricle("score", "a", "--output", "out", "--metrics", "mtld", cwd=tmp_path)
    monkeypatch.setattr(plan, "kind_of", counted)
    assert "already scored" in curricle("score", "b", "--output", "out", "--metrics", "mtld", "--append", cwd=tmp_path)
    assert kinds.total() <= 3 * 120


def test_the_shard_files_that_were_fetched_ahead_go_with_an_error(s3, tmp_path, monkeypatch):
    """A shard that is gone ends the job; nothing of the others stays in the temporary folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "in.jsonl").write_text('{"prompt": "q", "completion": "a"}\n' * 9)
    where, run = f"s3://{s3}/out", engines.run

    def lossy(work):
        run(work)
        open_storage(where).remove("_progress/shards/shard-000004.arrow")

    arguments = ("score", tmp_path / "in.jsonl", "--output", where, "--metrics", "mtld", "--shard-rows", 1)
    with monkeypatch.context() as patch:
        patch.setattr(engines, "run", lossy)
        patch.setattr("curricle.pipelines.commands.score._without_receipt", lambda *_: [])
        assert "shard-000004.arrow: a file of a finished shard is gone" in curricle(*arguments, code=1)
    assert not [*(tmp_path / "tmp").glob("curricle-*")]
    curricle(*arguments)
    assert "whole; 9 records" in curricle("verify", where)
