"""SIGTERM and Ctrl-C at any instant, on every engine: one line, exit code 1, no process left, finished shards kept.

CI takes an instant of each engine, a soak ten of each signal.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import drawn
import pytest
from clusters import beam_service, dask_cluster, until_true
from running import catches, children_of_group, command, curricle, signed, start

ROWS, SHARDS = 400, 20
OPTIONS = ("--metrics", "mtld,mattr", "--shard-rows", ROWS // SHARDS)
ENGINES = {
    "one worker": (),
    "two workers": ("--workers", 2),
    "dask of its own": ("--engine", "dask", "--workers", 2),
}
SHARED = ("dask", "portable")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[dict[str, tuple]]:
    """Engines that outlive a job."""
    root = tmp_path_factory.mktemp("engines")
    with dask_cluster(root / "dask") as cluster, beam_service(root / "beam") as portable:
        yield {"dask": cluster.options, "portable": (*portable, "--workers", 2)}


def receipts(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (directory / "out/_progress/receipts").glob("*.json")}


def stopped(process: subprocess.Popen, number: int, group: bool) -> str | None:
    """Send the signal, to the process or, as a terminal does, to its group; what it printed, None if it was done."""
    (os.killpg if group else os.kill)(process.pid, number)
    output, _ = process.communicate(timeout=60)
    until_true(lambda: not children_of_group(process.pid), "no process is left")
    if process.returncode == 0:
        return None
    assert process.returncode == 1, output
    *before, last = output.splitlines()
    assert re.match(r"curricle: asked to stop.*; the same command goes on from what is finished$", last), output
    assert all(line[0].isdigit() or line[0].islower() for line in before) and "asked to stop" not in "".join(before)
    assert not re.search("Traceback|Error|Exception|Warning", output), output
    return output


def completes(directory: Path, whole: Path, options: tuple) -> None:
    before = receipts(directory)
    curricle("score", "in.jsonl", "--output", "out", *OPTIONS, *options, cwd=directory)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert signed(directory / "out") == signed(whole)


def trial(directory: Path, whole: Path, options: tuple, what: str, number: int) -> None:
    """A signal at a shard that the seed draws and some time later: while it is scored, or as it is written."""
    draw = drawn.draw(f"stopped: {what} {number}")
    sent = SIGNALS[(draw.randrange(2) + number) % 2]
    shards, later, group = draw.randrange(SHARDS), draw.random() / 4, draw.random() < 0.5
    print(what, sent.name, shards, later, "group" if group else "process")
    process = start("score", "in.jsonl", "--output", "out", *OPTIONS, *options, cwd=directory)
    until_true(lambda: catches(process, sent) or process.poll() is not None, "it has begun")
    until_true(lambda: len(receipts(directory)) >= shards or process.poll() is not None, "shards are finished")
    time.sleep(later)
    output = stopped(process, sent, group)
    if output and shards and len(receipts(directory)) < SHARDS:  # else it may be past its shards
        assert re.search(rf"stop: \d+ of {SHARDS} shards are finished, \d+ are left; ", output), output
    completes(directory, whole, ("--workers", 1))


TRIALS = range(drawn.amount(1, 20))


@pytest.mark.parametrize("number", TRIALS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_job_is_asked_to_stop(engine, number, directory, whole):
    trial(directory, whole, ENGINES[engine], engine, number)


@pytest.mark.parametrize("number", TRIALS)
@pytest.mark.parametrize("engine", SHARED)
def test_a_job_on_an_engine_that_outlives_it_is_asked_to_stop(engine, number, shared, directory, whole):
    trial(directory, whole, shared[engine], engine, number)


@pytest.mark.parametrize("number", range(drawn.amount(2, 20)))
def test_while_it_begins(number, directory):
    """A fresh interpreter, most of whose time goes into imports: an interruption may fall into any line of them."""
    draw = drawn.draw(f"stopped: begins {number}")
    sent, later = SIGNALS[number % 2], draw.uniform(0, 5)
    process = subprocess.Popen(
        command("score", "in.jsonl", "--output", "out", *OPTIONS),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    until_true(lambda: catches(process, sent), "it has begun")
    time.sleep(later)
    print(sent.name, later)
    stopped(process, sent, group=False)


NEVER_ENDS = """
import time
import pyarrow as pa
from curricle.curate.metric import Metric
from curricle.schemas.columns import ScoreColumn

def compute(batch):
    open("begun", "w").close()
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass

METRIC = Metric("slow", version=1, columns=(ScoreColumn("slow", pa.float64(), "none", "nothing"),), compute=compute)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_with_hours_of_work_in_hand_is_not_waited_for(workers, directory):
    """One shard of all rows, and a metric that never ends: a runner would close when it is done."""
    (directory / "my.py").write_text(NEVER_ENDS)
    options = ("--metrics", "./my.py:METRIC", "--workers", workers)
    process = start("score", "in.jsonl", "--output", "out", *options, cwd=directory)
    until_true(lambda: (directory / "begun").exists() or process.poll() is not None, "a worker has begun")
    output = stopped(process, signal.SIGTERM, group=False)
    assert output and "0 of 1 shards are finished, 1 are left" in output
    assert not (directory / "out" / "_progress" / "holder.json").exists()
