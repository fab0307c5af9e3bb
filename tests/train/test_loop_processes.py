"""Two processes train as one does: the same order, the same loss; and are killed and resumed to the same bits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] in ("train", "eval")]


def last(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("step-*"))[-1]


def order(run: Path) -> str:
    return json.loads((last(run) / "state" / "cursor.json").read_text())["order"]


def weights(run: Path) -> bytes:
    return (last(run) / "model.safetensors").read_bytes()


def die_in_step(number: int) -> None:
    original, calls = torch.optim.AdamW.step, iter(range(1000))

    def step(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *args, **kwargs)

    torch.optim.AdamW.step = step


OPTIONS = ["--eval.rows", "8", "--eval.every", "4", "--checkpoint.every", "2"]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_as_one(parallel, command, train_in_fork, train_in_forks, tmp_path):
    assert train_in_fork(command(*OPTIONS, output="one")).code == 0
    whole = train_in_forks(2, command(*OPTIONS, "--device.parallel", parallel, output="two"))
    assert [ended.code for ended in whole] == [0, 0], whole
    assert order(tmp_path / "two") == order(tmp_path / "one")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)

    arguments = command(*OPTIONS, "--device.parallel", parallel, output="killed")
    killed = train_in_forks(2, arguments, lambda: die_in_step(4))
    assert [ended.code for ended in killed] == [-signal.SIGKILL] * 2, killed
    assert last(tmp_path / "killed").name == "step-00000004"
    resumed = train_in_forks(2, arguments)
    assert [ended.code for ended in resumed] == [0, 0], resumed
    assert (tmp_path / "killed" / "journal.jsonl").read_bytes() == (tmp_path / "two" / "journal.jsonl").read_bytes()
    assert losses(tmp_path / "killed") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    if parallel == "ddp":
        assert weights(tmp_path / "killed") == weights(tmp_path / "two")


def test_another_number_of_processes_keeps_the_order(command, train_in_fork, train_in_forks, tmp_path):
    assert train_in_fork(command(*OPTIONS, output="one")).code == 0
    arguments = command(*OPTIONS, output="moved")
    assert {ended.code for ended in train_in_forks(2, arguments, lambda: die_in_step(4))} == {-signal.SIGKILL}
    alone = train_in_fork(arguments)
    assert alone.code == 0, alone.text
    assert order(tmp_path / "moved") == order(tmp_path / "one")
    assert losses(tmp_path / "moved") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_nproc_starts_the_processes_and_passes_on_how_they_end(command, tmp_path):
    """One launch of the real command, in a directory with a train.py of the user's own."""
    (tmp_path / "train.py").write_text("raise SystemExit('the wrong train')")
    arguments = command("--device.nproc", "2", "--budget.steps", "1", "--curriculum", "random", "--data", "absent")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "train.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("there is no such file or directory") == 1
    assert "Traceback" not in done.stderr
