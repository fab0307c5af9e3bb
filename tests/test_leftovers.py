"""However the tests end, no process that they started is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import drawn
import leftovers
import pytest
from clusters import until_true

TESTS = Path(__file__).parent
BUSY = """
import os, subprocess, sys, time
from pathlib import Path
from running import command, write_jsonl

def test_that_forks(tmp_path):
    if not os.fork():
        os.setsid()
        os.fork()  # in a session of its own, and its parent may end
        time.sleep(600)
    subprocess.Popen(command("workers", "--port", 0), start_new_session=True)
    Path("forks").touch()
    time.sleep(600)

def test_that_scores(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", ({"prompt": str(row), "completion": "a b " * 999} for row in range(9999)))
    score = command("score", tmp_path / "in.jsonl", "--output", tmp_path / "out", "--metrics", "mattr")
    subprocess.Popen([*score, "--shard-rows", "100", "--workers", "2"], start_new_session=True)
    while not list(tmp_path.glob("out/_progress/live/*-*.json")):
        time.sleep(0.1)
    Path("scores").touch()
    time.sleep(600)
"""
FORGETFUL = """
import subprocess, sys
def test_that_leaves_a_process():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "forgotten"], start_new_session=True)
"""


def mark(path: Path) -> str:
    return os.environ[leftovers.NAME] + str(path)


def run_pytest(path: Path, code: str, *options: str, **environment: str) -> subprocess.Popen:
    """Tests of their own, in a process group of their own as a shell gives them, with our fixtures."""
    (path / "test_it.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-c", str(TESTS.parent / "pyproject.toml")]
    return subprocess.Popen(
        [*command, "--rootdir", str(path), "-p", "no:cacheprovider", *options, "test_it.py"],
        cwd=path,
        env={**os.environ, "PYTHONPATH": str(TESTS), leftovers.NAME: mark(path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


ENDS: dict[str, Callable[[int], None]] = {
    "Ctrl-C at a terminal": lambda pid: os.killpg(pid, signal.SIGINT),
    "an interrupt of pytest alone": lambda pid: os.kill(pid, signal.SIGINT),
    "a kill": lambda pid: os.kill(pid, signal.SIGKILL),
}


@pytest.mark.parametrize("way", drawn.some("ends of the tests", list(ENDS), 1))
def test_nothing_is_left_of_tests_that_are_ended(way, tmp_path):
    process = run_pytest(tmp_path, BUSY, "-n", "2", "--dist", "load")
    begun = [tmp_path / "forks", tmp_path / "scores"]
    until_true(lambda: process.poll() is not None or all(path.exists() for path in begun), "the tests are at work")
    assert process.poll() is None, process.communicate()[0]
    # pytest thrice, and what forks, a pool, a job and two workers
    until_true(lambda: len(leftovers.marked(mark(tmp_path))) >= 9, "all have begun")
    ENDS[way](process.pid)
    process.communicate(timeout=120)
    until_true(lambda: not leftovers.marked(mark(tmp_path)), "all end")


def test_a_process_that_is_left_fails_the_tests(tmp_path):
    process = run_pytest(tmp_path, FORGETFUL, "-n", "0", CURRICLE_PATIENCE="1")
    message, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "1 passed" in message, message
    assert "LEFT BEHIND" in message and "forgotten" in message
    assert not leftovers.marked(mark(tmp_path))
