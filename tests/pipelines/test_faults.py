"""Faults: a job ends either whole or with a clear message, and then the same command completes it.

Each is real: processes are killed, a file system is full or read-only, a file is gone. The README's table of faults
stands on these tests.
"""

import os
import shutil
import signal
import subprocess
import textwrap
from pathlib import Path

import pytest
from clusters import Dask, dask_cluster, end, until_true
from running import command, curricle, in_process_of_its_own, signed, start, write_jsonl

ROWS = 3000
OPTIONS = ("--metrics", "mtld,mattr", "--shard-rows", 150)


@pytest.fixture(scope="module")
def whole(alpaca_rows, tmp_path_factory) -> Path:
    """The table of a job that nothing happened to, beside its input."""
    root = tmp_path_factory.mktemp("whole")
    write_jsonl(root / "in.jsonl", alpaca_rows(ROWS))
    curricle("score", "in.jsonl", "--output", "out", *OPTIONS, cwd=root)
    return root / "out"


@pytest.fixture
def place(whole, tmp_path) -> Path:
    shutil.copy2(whole.parent / "in.jsonl", tmp_path)
    return tmp_path


def receipts(place: Path) -> list[Path]:
    return sorted((place / "out" / "_progress" / "receipts").glob("*.json"))


def begun(place: Path, *options: object, shards: int = 3) -> subprocess.Popen:
    """A job that has finished some shards, and has others left."""
    process = start("score", "in.jsonl", "--output", "out", *OPTIONS, *options, cwd=place)
    until_true(lambda: len(receipts(place)) >= shards or process.poll() is not None, "the first shards are finished")
    assert process.poll() is None, process.communicate()[0]
    return process


def message(process: subprocess.Popen, code: int) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


def completes(place: Path, whole: Path, *options: object) -> None:
    """The same command ends with the table that nothing happened to, and keeps what was finished."""
    kept = {path: path.read_bytes() for path in receipts(place)}
    in_process_of_its_own("score", "in.jsonl", "--output", "out", *OPTIONS, *options, cwd=place)
    assert all(path.read_bytes() == content for path, content in kept.items())
    is_whole(place, whole)


def is_whole(place: Path, whole: Path) -> None:
    assert signed(place / "out") == signed(whole)
    assert f"whole; {ROWS} records" in curricle("verify", "out", cwd=place)


def worker_of(place: Path) -> int:
    """A process that has finished a shard."""
    return int(next((place / "out" / "_progress" / "live").glob("*.json")).stem.split("-")[-2])


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_driver_is_asked_to_stop(stop, place, whole):
    process = begun(place, "--workers", 2)
    process.send_signal(stop)
    said = message(process, 1)
    assert "asked to stop" in said and "are left" in said and "the same command goes on" in said
    completes(place, whole, "--workers", 2)


class TestDask:
    """A cluster of its own: a scheduler and two workers, which outlive the driver."""

    @pytest.fixture
    def cluster(self, tmp_path):
        with dask_cluster(tmp_path / "dask") as cluster:
            yield cluster

    def test_a_worker_is_killed_in_the_middle_of_a_shard(self, cluster: Dask, place, whole):
        process = begun(place, *cluster.options)
        os.kill(worker_of(place), signal.SIGKILL)
        message(process, 0)
        is_whole(place, whole)

    def test_the_driver_is_killed(self, cluster: Dask, place, whole):
        process = begun(place, *cluster.options)
        process.kill()
        process.communicate()
        completes(place, whole, *cluster.options)

    def test_the_scheduler_is_killed(self, cluster: Dask, place, whole):
        process = begun(place, *cluster.options)
        cluster.scheduler.kill()
        said = message(process, 1)
        assert "the dask scheduler is gone" in said and "What to do" in said
        end([cluster.worker])
        cluster.start(2)
        completes(place, whole, *cluster.options)


def test_the_input_is_taken_away(place, whole):
    process = begun(place, shards=1)
    (place / "in.jsonl").rename(place / "elsewhere.jsonl")
    said = message(process, 1)
    assert "in.jsonl" in said and "What to do" in said
    assert not (place / "out" / "manifest.json").exists()
    (place / "elsewhere.jsonl").rename(place / "in.jsonl")
    completes(place, whole)


def test_the_input_is_changed(place, whole):
    process = begun(place, shards=1)
    content = (place / "in.jsonl").read_bytes()
    (place / "in.jsonl").write_bytes(content + b'{"prompt": "one", "completion": "more"}\n')
    said = message(process, 1)
    assert "in.jsonl: was changed" in said and "--overwrite" in said
    assert not (place / "out" / "manifest.json").exists()
    (place / "in.jsonl").write_bytes(content)
    completes(place, whole)


def test_a_finished_shard_is_damaged(place, whole):
    process = begun(place)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    shard = place / "out" / "_progress" / "shards" / "shard-000001.arrow"
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    arguments = ("score", "in.jsonl", "--output", "out", *OPTIONS)
    said = in_process_of_its_own(*arguments, cwd=place, code=1)
    assert "shard-000001.arrow" in said and "scores this shard again" in said
    curricle(*arguments, cwd=place)
    is_whole(place, whole)


def test_the_plan_is_damaged(place, whole):
    process = begun(place)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (place / "out" / "_progress" / "plan.json").write_text('{"sources": [{}]}')
    arguments = ("score", "in.jsonl", "--output", "out", *OPTIONS)
    said = curricle(*arguments, cwd=place, code=2)
    assert "plan.json" in said and "--overwrite" in said
    curricle(*arguments, "--overwrite", cwd=place)
    is_whole(place, whole)


def test_a_finished_table_without_its_progress(place, whole):
    shutil.copytree(whole, place / "out")
    shutil.rmtree(place / "out" / "_progress")
    arguments = ("score", "in.jsonl", "--output", "out", *OPTIONS)
    assert "--overwrite" in curricle(*arguments, cwd=place, code=2)
    is_whole(place, whole)
    curricle(*arguments, "--overwrite", cwd=place)
    is_whole(place, whole)


def test_the_disk_is_full_and_then_read_only(place, whole):
    """On a file system of its own, in a namespace where anyone may mount one."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system of their own")
    score = " ".join(command("score", "in.jsonl", "--output", "disk/out", *OPTIONS))
    script = f"""
        mkdir disk
        mount -t tmpfs -o size=300k tmpfs disk
        {score}; echo "full: $?"
        test -e disk/out/manifest.json && echo "a manifest of half a table"
        mount -o remount,ro disk
        {score}; echo "read-only: $?"
        mount -o remount,rw,size=50m disk
        {score}; echo "room: $?"
        mount -o remount,ro disk
        {score}; echo "again: $?"
        cp -r disk/out out
    """
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", textwrap.dedent(script)], cwd=place, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split("\n")[:-1] == ["full: 1", "read-only: 2", "room: 0", "again: 0"], done.stdout + done.stderr
    assert "No space left on device" in done.stderr and "make room" in done.stderr
    assert "cannot be written to" in done.stderr and "already scored" in done.stderr
    assert "Traceback" not in done.stderr
    is_whole(place, whole)
