"""Laws 3 and 4: scores depend on the example and the fingerprint, and on nothing else."""

import json
import os
import random

import pytest
from running import curricle, read_data, signed, write_jsonl

CPU = ("--metrics", "mtld,mattr")


@pytest.fixture(scope="module")
def records(alpaca_rows) -> list[dict]:
    return alpaca_rows(700)


@pytest.fixture(scope="module")
def reference(records, tmp_path_factory):
    root = tmp_path_factory.mktemp("reference")
    write_jsonl(root / "in.jsonl", records)
    curricle("score", "in.jsonl", "--output", "out", *CPU, cwd=root)
    return root / "out"


@pytest.mark.parametrize(
    "options", [("--shard-rows", 64), ("--shard-rows", 1000), ("--workers", 2, "--shard-rows", 50)]
)
def test_shards_and_workers_do_not_show(reference, options, tmp_path):
    curricle("score", "in.jsonl", "--output", tmp_path, *CPU, *options, cwd=reference.parent)
    assert signed(tmp_path) == signed(reference)  # digests of every part among it: the same bytes


def test_row_order_does_not_show(reference, records, tmp_path):
    shuffled = random.Random(5).sample(records, len(records))
    write_jsonl(tmp_path / "in.jsonl", shuffled)
    curricle("score", "in.jsonl", "--output", "out", *CPU, cwd=tmp_path)
    columns = ["example_id", "prompt_mtld", "response_mtld", "prompt_mattr", "response_mattr", "notes"]

    def by_id(directory):
        return sorted(map(json.dumps, read_data(directory).select(columns).to_pylist()))

    assert by_id(tmp_path / "out") == by_id(reference)


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst", ".json", ".parquet"])
def test_container_does_not_show(reference, records, ending, tmp_path):
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    path = tmp_path / f"in{ending}"
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    if ending == ".jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    elif ending == ".jsonl.zst":
        path.write_bytes(zstandard.compress(lines))
    elif ending == ".json":
        path.write_text(json.dumps(records, indent=2))
    else:
        names = {name for record in records for name in record}
        columns = {name: [record.get(name) for record in records] for name in sorted(names)}
        pq.write_table(pa.table(columns), path, row_group_size=90)
    curricle("score", path, "--output", tmp_path / "out", *CPU, "--workers", 2, "--shard-rows", 128)
    mine, theirs = (read_data(directory).drop(["source"]) for directory in (tmp_path / "out", reference))
    assert mine.equals(theirs)


def test_first_row_with_nulls_does_not_fix_the_schema(tmp_path):
    write_jsonl(
        tmp_path / "in.jsonl",
        [
            {"instruction": "Say hi.", "input": None, "output": "Hi.", "meta": None, "id": None},
            {"instruction": "Say it twice.", "input": "hi", "output": "Hi hi.", "meta": {"a": [1, "x"]}, "id": 3},
            {"instruction": "Again.", "output": "Hi.", "id": "seven", "meta": [1.5]},
        ],
    )
    curricle("score", "in.jsonl", "--output", "out", *CPU, cwd=tmp_path)
    rows = read_data(tmp_path / "out").to_pylist()
    extras = [json.loads(row["extra"]) if row["extra"] else {} for row in rows]
    assert extras[1]["meta"] == {"a": [1, "x"]} and extras[1]["id"] == 3
    assert extras[2]["id"] == "seven" and extras[2]["meta"] == [1.5]


def test_second_run_does_nothing(reference):
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.is_file() and path.name != "lock"}
    assert "already scored" in curricle("score", "in.jsonl", "--output", "out", *CPU, cwd=reference.parent)
    after = {path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.is_file() and path.name != "lock"}
    assert after == before


def test_another_fingerprint_is_refused_and_overwrites_only_when_told(records, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", records[:40])
    curricle("score", "in.jsonl", "--output", "out", *CPU, cwd=tmp_path)
    before = signed(tmp_path / "out")
    message = curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", cwd=tmp_path, code=2)
    assert "columns prompt_mattr, response_mattr" in message and "--overwrite" in message
    assert signed(tmp_path / "out") == before
    curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", "--overwrite", cwd=tmp_path)
    assert "prompt_mattr" not in read_data(tmp_path / "out").column_names
    assert "whole" in curricle("verify", "out", cwd=tmp_path)


def test_changed_input_is_refused(records, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", records[:40])
    curricle("score", "in.jsonl", "--output", "out", *CPU, cwd=tmp_path)
    os.utime(tmp_path / "in.jsonl")  # touched, not changed
    assert "already scored" in curricle("score", "in.jsonl", "--output", "out", *CPU, cwd=tmp_path)
    write_jsonl(tmp_path / "in.jsonl", records[:41])
    assert "in.jsonl: was changed" in curricle("score", "in.jsonl", "--output", "out", *CPU, cwd=tmp_path, code=2)


def test_files_of_the_user_never_shadow_ours(records, tmp_path):
    for name in ("schemas", "curate", "pipelines", "train"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package was imported')\n")
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module was imported')\n")
    write_jsonl(tmp_path / "in.jsonl", records[:300])
    import subprocess
    import sys
    from pathlib import Path

    script = Path(sys.executable).with_name("curricle")
    for arguments in (
        ["score", "in.jsonl", "--output", "out", *map(str, CPU), "--workers", "2", "--shard-rows", "100"],
        ["verify", "out"],
        ["report", "out"],
    ):
        done = subprocess.run([script, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
