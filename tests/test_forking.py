"""Commands that tests fork are real processes, and do what a fresh interpreter does."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import drawn
import forking
import pytest
from clusters import until_true
from curricle.curate.proxy.devices import stay_untouched
from running import command, curricle, start, write_jsonl

ROWS = 40
ALLOCATORS = {"jemalloc_bg_thd", "polars-ooc-clea"}
"""Threads that libraries start as they are imported: they hold no lock of Python's, and start again after a fork."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    rows = [{"prompt": f"Say {n}.", "completion": f"It is {n}, and no other.\n" * (1 + n % 5)} for n in range(ROWS)]
    write_jsonl(tmp_path / "in.jsonl", [*rows, {"no": "format"}])
    return tmp_path


def train(*arguments: object) -> list[str]:
    return [part.replace("pipelines", "train") for part in command()] + [str(argument) for argument in arguments]


SCORE = ("score", "in.jsonl", "--metrics", "mtld,mattr", "--output", "out")


def files(directory: Path) -> dict[str, bytes]:
    """What a command has written, but for what two runs of it may do differently."""
    paths = (path for path in directory.rglob("*") if path.is_file() and "_progress" not in path.parts)
    where = os.fsencode(directory)
    rest = (path for path in paths if path.name not in VARIES)
    return {str(path.relative_to(directory)): path.read_bytes().replace(where, b"") for path in rest}


def without_progress(text: str) -> list[str]:
    return [line for line in text.splitlines() if " rows/s, " not in line]  # a line now and then


VARIES = {"manifest.json", "README.md", "report.html", "certificate.json"}
"""Of seconds and speeds, or with the digest of what is. Their digests of the parts are compared with the parts."""


def test_fresh_and_forked_give_the_same_bytes(directory, tmp_path_factory):
    others = [
        command("verify", "out"),
        command("select", "out", "--by", "response_mtld", "--take", "low", "--count", "5", "--output", "selected"),
        command("status", "out"),
        command("score", "absent.jsonl", "--output", "none"),
        command("--help"),
        command("verfy"),
        train("plan", "--data", "out", "--output", "planned", "--batch.size", "8", "--curriculum", "random"),
        train("run", "--data", "absent", "--output", "none", "--model", "absent"),
    ]
    other = tmp_path_factory.mktemp("forked")
    (other / "in.jsonl").write_bytes((directory / "in.jsonl").read_bytes())
    for each in [command(*SCORE), *drawn.some("forked commands", others, 4)]:
        fresh = subprocess.run(each, cwd=directory, capture_output=True, text=True)
        forked = forking.run(each, cwd=other)
        assert (forked.returncode, forked.stdout) == (fresh.returncode, fresh.stdout), each
        assert without_progress(forked.stderr) == without_progress(fresh.stderr), each
    assert files(other) == files(directory)


def test_a_forked_command_is_a_process_of_its_own(directory):
    process = start(*SCORE, cwd=directory)
    assert "forking.py" in Path(f"/proc/{process.pid}/cmdline").read_text()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    assert int(status["PPid"]) == os.getpid() and os.getsid(process.pid) == process.pid
    assert os.readlink(f"/proc/{process.pid}/cwd") == str(directory)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (directory / "out" / "manifest.json").exists()


def test_another_environment_gets_a_fresh_interpreter(directory):
    environment = {**os.environ, "OMP_NUM_THREADS": "3"}
    with forking.Command(command("score", "--help"), stdout=subprocess.DEVNULL, env=environment) as process:
        assert "forking.py" not in Path(f"/proc/{process.pid}/cmdline").read_text()
    assert process.returncode == 0
    environment = {**os.environ, "CURRICLE_OUTPUT": "of the environment"}
    (directory / "job.yaml").write_text("inputs: [absent.jsonl]\noutput: ${CURRICLE_OUTPUT:?}\nmetrics: [mtld]\n")
    done = forking.run(command("score", "--config", "job.yaml"), cwd=directory, env=environment)
    assert done.returncode == 2 and "absent.jsonl" in done.stderr


def test_what_libraries_and_commands_set_here_asks_for_no_fresh_interpreter(directory):
    forking.run(command("--help"))  # the warm process has begun
    importlib.import_module("torch"), importlib.import_module("polars")
    curricle(*SCORE, cwd=directory)
    stay_untouched()  # as every job does that loads a model
    with forking.Command(command("--help"), stdout=subprocess.DEVNULL) as process:
        assert "forking.py" in Path(f"/proc/{process.pid}/cmdline").read_text()


def test_nothing_runs_where_commands_are_forked():
    forking.run(command("--help"))
    pid = str(forking._server().process.pid)
    threads = [path for path in Path(f"/proc/{pid}/task").iterdir() if path.name != pid]
    assert {(path / "comm").read_text().strip() for path in threads} <= ALLOCATORS


def test_commands_end_with_the_tests(directory):
    """Whatever ends a test process ends the process that forks for it, and what that has forked."""
    script = (
        "import forking, os, sys, time; from running import start\n"
        f"print(start(*{SCORE!r}, '--shard-rows', '1').pid, forking._server().process.pid, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=directory, env=environment
    ) as tests:
        pids = [int(pid) for pid in tests.stdout.readline().split()]
        tests.kill()
    until_true(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in pids), "they end")
