"""Faults: a job ends either whole or with a clear message, and then the same command completes it.

Each is real: processes are killed, a file system is full or read-only, a file is gone. The README's table of faults
stands on these tests.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from clusters import Dask, a_worker_of, beam_service, dask_cluster, end, until_true
from running import children_of_group, command, curricle, in_process_of_its_own, signed, start, write_jsonl

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
    curricle("score", "in.jsonl", "--output", "out", *OPTIONS, *options, cwd=place)
    assert all(path.read_bytes() == content for path, content in kept.items())
    is_whole(place, whole)


def is_whole(place: Path, whole: Path) -> None:
    assert signed(place / "out") == signed(whole)
    assert f"whole; {ROWS} records" in curricle("verify", "out", cwd=place)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 2)])
def test_the_job_is_asked_to_stop(number, workers, place, whole):
    process = begun(place, "--workers", workers)
    os.killpg(process.pid, number)  # as a terminal or a supervisor does: its workers get it too
    said = message(process, 1)
    assert "asked to stop" in said and "are left" in said and "the same command goes on" in said
    until_true(lambda: not children_of_group(process.pid), "its workers end")
    completes(place, whole, "--workers", workers)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler and two workers, which outlive the driver."""
    with dask_cluster(tmp_path_factory.mktemp("dask") / "cluster") as cluster:
        yield cluster


def test_a_dask_worker_is_killed_in_the_middle_of_a_shard(cluster: Dask, place, whole):
    process = begun(place, *cluster.options)
    os.kill(a_worker_of(place / "out"), signal.SIGKILL)
    message(process, 0)
    is_whole(place, whole)


def test_the_driver_of_a_dask_job_is_killed(cluster: Dask, place, whole):
    process = begun(place, *cluster.options)
    process.kill()
    process.communicate()
    completes(place, whole, *cluster.options)


def test_the_dask_scheduler_is_killed(cluster: Dask, place, whole):
    process = begun(place, *cluster.options)
    cluster.scheduler.kill()
    said = message(process, 1)
    assert "the dask scheduler is gone" in said and "What to do" in said
    end([cluster.worker])
    cluster.start(2)
    completes(place, whole, *cluster.options)


def test_the_job_service_is_killed(place, whole):
    with beam_service(place / "one", 1) as options:
        process = begun(place, *options)
        os.killpg(int((place / "one" / "service.pid").read_text()), signal.SIGKILL)
        said = message(process, 1)
        assert "the portable job failed" in said and "What to do" in said
    with beam_service(place / "another", 1) as options:
        completes(place, whole, *options)


def test_nothing_moves_any_more():
    """What waits inside Beam cannot look by itself."""
    script = """
        import time
        from curricle.pipelines.engines.local import ended_when_stalled
        from curricle.schemas.common.errors import UserError
        def check(): raise UserError("no worker has done anything")
        with ended_when_stalled(check):
            time.sleep(60)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1 and "no worker has done anything" in done.stderr


def test_workers_are_talked_to_on_loopback_alone(place, whole):
    process = begun(place, "--workers", 2)
    found = listening(children_of_group(process.pid))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert found and all(address.endswith("0100007F") for address in found), found


def listening(pids: list[int]) -> list[str]:
    """The addresses, in the kernel's hexadecimal, of the ports that processes listen at."""
    sockets = set()
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(file))
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return [line[1].partition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets]


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
