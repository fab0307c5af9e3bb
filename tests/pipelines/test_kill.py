"""Kill a job at any instant, run the same command again: the table is that of an uninterrupted run."""

import os
import signal
import subprocess
import sys

import drawn
import pytest
import stress
from clusters import a_worker_of, until_true
from running import children_of_group, curricle, in_process_of_its_own, read_data, start, write_jsonl
from stress import receipts

ROWS = 3000
KILLS = drawn.amount(3, 50)
OPTIONS = ("--metrics", "mtld,mattr", "--shard-rows", 150)


def seeds() -> list[int]:
    """Those of the day, with one that falls behind the last shard, and with one worker process and with two before."""
    draw = drawn.draw("kills at random instants")
    result = [draw.randrange(10**9) for _ in range(1000)]
    late = [seed for seed in result if stress.is_late(seed)]
    early = [[seed for seed in result if not stress.is_late(seed) and seed % 2 == workers] for workers in (0, 1)]
    return [late.pop(), early[0].pop(), early[1].pop(), *result][:KILLS]


@pytest.fixture(scope="module")
def records(alpaca_rows) -> list[dict]:
    rows = alpaca_rows(ROWS)
    rows[1234] = {"instruction": "no answer here"}
    return rows


@pytest.fixture(scope="module")
def whole(records, tmp_path_factory) -> stress.Whole:
    root = tmp_path_factory.mktemp("whole")
    return stress.uninterrupted(root / "out", write_jsonl(root / "in.jsonl", records), *OPTIONS)


@pytest.mark.parametrize("seed", seeds())
def test_killed_at_a_random_instant(whole, seed, tmp_path):
    print(stress.trial(whole, tmp_path / "out", seed))


def test_second_job_is_refused_while_the_first_runs(records, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", records)
    first = start("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=tmp_path)
    try:
        until_true(lambda: receipts(tmp_path / "out"), "a shard is finished")
        message = curricle("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=tmp_path, code=4)
        assert f"process {first.pid} on" in message
        assert "another job holds this directory" in message
    finally:
        output, _ = first.communicate(timeout=120)
    assert first.returncode == 0, output
    assert "whole" in curricle("verify", "out", cwd=tmp_path)


def test_worker_that_outlives_its_job_cannot_write(tmp_path):
    """A worker commits only under the run that holds the directory."""
    from curricle.pipelines.tables.directory import OutputDirectory
    from curricle.schemas.common.errors import DirectoryLocked

    directory = OutputDirectory(str(tmp_path))
    with directory.held() as old:
        directory.check_held_by(old)
    with directory.held() as new:
        directory.check_held_by(new)
        with pytest.raises(DirectoryLocked):
            directory.check_held_by(old)


def test_a_job_that_surveyed_while_another_finished_does_not_touch_its_table(records, tmp_path, monkeypatch):
    """What was true before the survey need not be true once the directory is held."""
    from curricle.pipelines.scoring import growth as module

    write_jsonl(tmp_path / "in.jsonl", records[:100])
    survey = module._survey

    def survey_while_another_job_runs(*arguments):
        plan = survey(*arguments)
        monkeypatch.setattr(module, "_survey", survey)
        curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", cwd=tmp_path)
        return plan

    monkeypatch.setattr(module, "_survey", survey_while_another_job_runs)
    message = curricle("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=tmp_path, code=2)
    assert "holds another job's scores" in message
    assert "prompt_mattr" not in read_data(tmp_path / "out").column_names


def test_a_worker_that_dies_ends_the_job(records, tmp_path):
    """The out-of-memory killer takes a worker: the job ends with a message, and the same command completes it."""
    write_jsonl(tmp_path / "in.jsonl", records)
    arguments = ("score", "in.jsonl", "--output", "out", *OPTIONS, "--workers", 2)
    process = start(*arguments, cwd=tmp_path)
    until_true(lambda: receipts(tmp_path / "out"), "a shard is finished")
    os.kill(a_worker_of(tmp_path / "out"), signal.SIGKILL)
    message, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a worker process died" in message and "What to do" in message
    until_true(lambda: not children_of_group(process.pid), "the other worker notices that its driver is gone")
    in_process_of_its_own(*arguments, cwd=tmp_path)
    assert "whole" in curricle("verify", "out", cwd=tmp_path)


def test_a_worker_that_cannot_be_asked_for_ends_the_job(records, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", records[:100])
    command = ("score", "in.jsonl", "--output", "out", "--metrics", "mtld", "--shard-rows", 10, "--workers", 2)
    code = """
from curricle.pipelines.cli import main
from curricle.pipelines.processes.fork_server import ForkServer

def run(self, environment):
    raise OSError(24, "Too many open files")

ForkServer.run = run
main()
"""
    arguments = [sys.executable, "-P", "-c", code, *map(str, command)]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "a worker process died" in done.stderr
    assert "Too many open files" in done.stderr
