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
from running import children_of_group, curricle, in_process_of_its_own, signed, start

ROWS = 3000
OPTIONS = ("--metrics", "mtld,mattr", "--shard-rows", 150)


def receipts(directory: Path) -> list[Path]:
    return sorted((directory / "out" / "_progress" / "receipts").glob("*.json"))


def begun(directory: Path, *options: object, shards: int = 3) -> subprocess.Popen:
    """A job that has finished some shards, and has others left."""
    process = start("score", "in.jsonl", "--output", "out", *OPTIONS, *options, cwd=directory)
    until_true(
        lambda: len(receipts(directory)) >= shards or process.poll() is not None, "the first shards are finished"
    )
    assert process.poll() is None, process.communicate()[0]
    return process


def message(process: subprocess.Popen, code: int) -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    assert "Traceback" not in output
    return output


def completes(directory: Path, whole: Path, *options: object) -> None:
    """The same command ends with the table that nothing happened to, and keeps what was finished."""
    rest = {path: path.read_bytes() for path in receipts(directory)}
    curricle("score", "in.jsonl", "--output", "out", *OPTIONS, *options, cwd=directory)
    assert all(path.read_bytes() == content for path, content in rest.items())
    is_whole(directory, whole)


def is_whole(directory: Path, whole: Path) -> None:
    assert signed(directory / "out") == signed(whole)
    assert f"whole; {ROWS:,} records" in curricle("verify", "out", cwd=directory)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler and two workers, which outlive the driver."""
    with dask_cluster(tmp_path_factory.mktemp("dask") / "cluster") as cluster:
        yield cluster


def test_a_dask_worker_is_killed_in_the_middle_of_a_shard(cluster: Dask, directory, whole):
    process = begun(directory, *cluster.options)
    os.kill(a_worker_of(directory / "out"), signal.SIGKILL)
    message(process, 0)
    is_whole(directory, whole)


def test_the_driver_of_a_dask_job_is_killed(cluster: Dask, directory, whole):
    process = begun(directory, *cluster.options)
    process.kill()
    process.communicate()
    completes(directory, whole, *cluster.options)


def test_the_dask_scheduler_is_killed(cluster: Dask, directory, whole):
    process = begun(directory, *cluster.options)
    cluster.scheduler.kill()
    output = message(process, 1)
    assert "the dask scheduler is gone" in output and "What to do" in output
    end([cluster.worker])
    cluster.start(2)
    completes(directory, whole, *cluster.options)


def test_the_job_service_is_killed(directory, whole):
    with beam_service(directory / "one", 1) as options:
        process = begun(directory, *options)
        os.killpg(int((directory / "one" / "service.pid").read_text()), signal.SIGKILL)
        output = message(process, 1)
        assert "the portable job failed" in output and "What to do" in output
    with beam_service(directory / "another", 1) as options:
        completes(directory, whole, *options)


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


def test_workers_are_talked_to_on_loopback_alone(directory, whole):
    process = begun(directory, "--workers", 2)
    result = listening(children_of_group(process.pid))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert result and all(address.endswith("0100007F") for address in result), result


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


def test_the_input_is_taken_away(directory, whole):
    process = begun(directory, shards=1)
    (directory / "in.jsonl").rename(directory / "elsewhere.jsonl")
    output = message(process, 1)
    assert "in.jsonl" in output and "What to do" in output
    assert not (directory / "out" / "manifest.json").exists()
    (directory / "elsewhere.jsonl").rename(directory / "in.jsonl")
    completes(directory, whole)


def test_the_input_is_changed(directory, whole):
    process = begun(directory, shards=1)
    content = (directory / "in.jsonl").read_bytes()
    (directory / "in.jsonl").write_bytes(content + b'{"prompt": "one", "completion": "more"}\n')
    output = message(process, 1)
    assert "in.jsonl: was changed" in output and "--overwrite" in output
    assert not (directory / "out" / "manifest.json").exists()
    (directory / "in.jsonl").write_bytes(content)
    completes(directory, whole)


def test_a_finished_shard_is_damaged(directory, whole):
    process = begun(directory)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    shard = directory / "out" / "_progress" / "shards" / "shard-000001.arrow"
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    arguments = ("score", "in.jsonl", "--output", "out", *OPTIONS)
    output = in_process_of_its_own(*arguments, cwd=directory, code=1)
    assert "shard-000001.arrow" in output and "scores this shard again" in output
    curricle(*arguments, cwd=directory)
    is_whole(directory, whole)


def test_the_plan_is_damaged(directory, whole):
    process = begun(directory)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (directory / "out" / "_progress" / "plan.json").write_text('{"sources": [{}]}')
    arguments = ("score", "in.jsonl", "--output", "out", *OPTIONS)
    output = curricle(*arguments, cwd=directory, code=2)
    assert "plan.json" in output and "--overwrite" in output
    curricle(*arguments, "--overwrite", cwd=directory)
    is_whole(directory, whole)


def test_a_finished_table_without_its_progress(directory, whole):
    shutil.copytree(whole, directory / "out")
    shutil.rmtree(directory / "out" / "_progress")
    arguments = ("score", "in.jsonl", "--output", "out", *OPTIONS)
    assert "--overwrite" in curricle(*arguments, cwd=directory, code=2)
    is_whole(directory, whole)
    curricle(*arguments, "--overwrite", cwd=directory)
    is_whole(directory, whole)


def test_the_disk_is_full_and_then_read_only(directory, whole):
    """On a file system of its own, in a namespace where anyone may mount one."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system of their own")
    script = """
        import gc, importlib, os, subprocess, sys
        command = importlib.import_module("curricle.pipelines.cli").command
        for name in "curricle.pipelines.transforms.score", "curricle.pipelines.engines.runner":  # once, and not in each
            importlib.import_module(name)
        gc.freeze()

        def score(name):
            sys.stdout.flush()
            if not os.fork():
                command()
            print(f"{name}: {os.waitstatus_to_exitcode(os.wait()[1])}")

        def mount(*options):
            subprocess.run(["mount", *options, "disk"], check=True)

        os.mkdir("disk")
        mount("-t", "tmpfs", "-o", "size=300k", "tmpfs")
        score("full")
        if os.path.exists("disk/out/manifest.json"):
            print("a manifest of half a table")
        mount("-o", "remount,ro")
        score("read-only")
        mount("-o", "remount,rw,size=50m")
        score("room")
        mount("-o", "remount,ro")
        score("again")
        subprocess.run(["cp", "-r", "disk/out", "out"], check=True)
    """
    score = map(str, ("score", "in.jsonl", "--output", "disk/out", *OPTIONS))
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-P", "-c", textwrap.dedent(script), *score],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.split("\n")[:-1] == ["full: 1", "read-only: 2", "room: 0", "again: 0"], done.stdout + done.stderr
    assert "No space left on device" in done.stderr and "make room" in done.stderr
    assert "cannot be written to" in done.stderr and "already scored" in done.stderr
    assert "Traceback" not in done.stderr
    is_whole(directory, whole)
