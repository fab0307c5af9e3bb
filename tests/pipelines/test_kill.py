"""Kill a job at any instant, run the same command again: the table is that of an uninterrupted run."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from running import curricle, in_process_of_its_own, read_data, read_rejects, signed, start, write_jsonl

ROWS = 6000
SHARD_ROWS = 300
KILLS = 10
SEED = 20250911


@pytest.fixture(scope="module")
def records(alpaca_rows) -> list[dict]:
    rows = alpaca_rows(ROWS)
    rows[1234] = {"instruction": "no answer here"}
    return rows


@pytest.fixture(scope="module")
def uninterrupted(records, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    write_jsonl(root / "in.jsonl", records)
    curricle("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=root)
    return root / "out"


OPTIONS = ("--metrics", "mtld,mattr", "--shard-rows", SHARD_ROWS)


def receipts(directory: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in (directory / "_progress" / "receipts").glob("*.json")}


def kill(process) -> bool:
    """Kill the whole process group at once; False if it had already ended."""
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return running


def assert_nothing_partial(directory: Path) -> None:
    names = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    allowed = {"manifest.json", "README.md", "report.html"}
    allowed |= {f"_progress/{name}" for name in ("plan.json", "lock", "holder.json", "workers.log")}
    extra = {
        name
        for name in names - allowed
        if not name.startswith(("data/part-", "rejects/part-", "_progress/receipts/shard-"))
    }
    assert not extra
    assert not (directory / "_progress" / "shards").exists()


@pytest.mark.parametrize("trial", range(KILLS))
def test_killed_at_a_random_instant(uninterrupted, trial, tmp_path):
    draw = random.Random(SEED + trial)
    source = uninterrupted.parent / "in.jsonl"
    (tmp_path / "in.jsonl").symlink_to(source)
    workers = ("--workers", 1 + trial % 2)
    # Aim at an instant by what has been done, not by the clock: machines differ. The last two trials
    # wait for all receipts and so kill while parts, manifest or report are written.
    wait_for = ROWS // SHARD_ROWS if trial >= KILLS - 2 else draw.randrange(ROWS // SHARD_ROWS)
    delay = draw.uniform(0, 0.3)
    process = start("score", "in.jsonl", "--output", "out", *OPTIONS, *workers, cwd=tmp_path)
    directory = tmp_path / "out"
    deadline = time.monotonic() + 120
    while len(receipts(directory)) < wait_for and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(delay)
    was_running = kill(process)
    before = receipts(directory)
    print(f"seed {SEED + trial}: killed={was_running} with {len(before)} receipts, {delay:.2f} s after {wait_for}")

    in_process_of_its_own("score", "in.jsonl", "--output", "out", *OPTIONS, *workers, cwd=tmp_path)

    after = receipts(directory)
    assert {name: after[name] for name in before} == before, "a finished shard was scored again"
    assert read_data(directory).equals(read_data(uninterrupted))
    assert read_rejects(directory) == read_rejects(uninterrupted)
    assert signed(directory) == signed(uninterrupted)
    assert_nothing_partial(directory)
    assert "whole" in curricle("verify", "out", cwd=tmp_path)


def test_second_job_is_refused_while_the_first_runs(records, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", records)
    first = start("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while not receipts(tmp_path / "out") and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        said = curricle("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=tmp_path, code=4)
        assert f"process {first.pid} on" in said
        assert "another job holds this directory" in said
    finally:
        output, _ = first.communicate(timeout=120)
    assert first.returncode == 0, output
    assert "whole" in curricle("verify", "out", cwd=tmp_path)


def test_worker_that_outlives_its_job_cannot_write(tmp_path):
    """A worker commits only under the run that holds the directory."""
    from pipelines.directory import OutputDirectory
    from schemas.errors import Held

    directory = OutputDirectory(str(tmp_path))
    with directory.held() as old:
        directory.check_held_by(old)
    with directory.held() as new:
        directory.check_held_by(new)
        with pytest.raises(Held):
            directory.check_held_by(old)


def test_a_job_that_surveyed_while_another_finished_does_not_touch_its_table(records, tmp_path, monkeypatch):
    """What was true before the survey need not be true once the directory is held."""
    from pipelines import score as module

    write_jsonl(tmp_path / "in.jsonl", records[:100])
    survey = module._survey

    def survey_while_another_job_runs(job, files):
        plan = survey(job, files)
        monkeypatch.setattr(module, "_survey", survey)
        curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", cwd=tmp_path)
        return plan

    monkeypatch.setattr(module, "_survey", survey_while_another_job_runs)
    said = curricle("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=tmp_path, code=2)
    assert "holds another job's scores" in said
    assert "prompt_mattr" not in read_data(tmp_path / "out").column_names


def test_a_worker_that_dies_ends_the_job(records, tmp_path):
    """The out-of-memory killer takes a worker: the job ends with a message, and the same command completes it."""
    write_jsonl(tmp_path / "in.jsonl", records)
    arguments = ("score", "in.jsonl", "--output", "out", *OPTIONS, "--workers", 2)
    process = start(*arguments, cwd=tmp_path)
    while not receipts(tmp_path / "out") and process.poll() is None:
        time.sleep(0.01)
    worker = next(int(path.stem.split("-")[-2]) for path in (tmp_path / "out" / "_progress" / "live").glob("*.json"))
    os.kill(worker, signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a worker process died" in said and "What to do" in said
    time.sleep(3)  # the other worker notices that its driver is gone
    in_process_of_its_own(*arguments, cwd=tmp_path)
    assert "whole" in curricle("verify", "out", cwd=tmp_path)
