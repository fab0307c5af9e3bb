"""In a directory with a user's own ``train.py``, ``schemas/``, ``pipelines/`` and ``curate/``, which stand first on the
path and raise when they are imported: every command works there, torchrun among them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from curricle.pipelines.cli import COMMANDS as OF_CURRICLE
from curricle.train.cli import COMMANDS as OF_TRAINER

PROGRAMS = Path(sys.executable).parent
OURS = ("curate", "pipelines", "schemas", "train")
ROWS = """\
{"instruction": "Add 2 and 2.", "output": "The sum is 4, which is twice 2."}
{"instruction": "Name a colour.", "output": "Blue is the colour of the sky by day."}
{"instruction": "What do cows drink?", "output": "Grown cows drink water, and calves drink milk."}
{"instruction": "Say hello.", "output": "Hello, and a good morning to everybody."}
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("theirs")
    raising = "raise ImportError('a module of the user is imported instead of ours')\n"
    (directory / "train.py").write_text(raising)
    for name in OURS[:-1]:
        (directory / name).mkdir()
        (directory / name / "__init__.py").write_text(raising)
    (directory / "rows.jsonl").write_text(ROWS)
    return directory


def run(directory: Path, *command: object, code: int = 0, timeout: int = 600) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [*map(str, command)],
        cwd=directory,
        env={**environment, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", OURS)
def test_what_they_have_comes_first_there(theirs, name):
    assert "instead of ours" in run(theirs, sys.executable, "-c", f"import {name}", code=1)


@pytest.mark.parametrize(("program", "commands"), [("curricle", OF_CURRICLE), ("curricle-train", OF_TRAINER)])
def test_every_command_helps(theirs, program, commands):
    for name in commands:
        assert f"usage: {program} {name}" in run(theirs, PROGRAMS / program, name, "--help")


def test_a_table_is_scored_looked_at_and_trained_on(theirs, tiny_model):
    run(theirs, PROGRAMS / "curricle", "score", "rows.jsonl", "--output", "scored", "--metrics", "length,mtld")
    assert "whole" in run(theirs, PROGRAMS / "curricle", "verify", "scored")
    run(theirs, PROGRAMS / "curricle", "status", "scored")
    run(theirs, PROGRAMS / "curricle", "select", "scored", "--output", "chosen", "--where", "response_words > 7")
    order = ["--data", "scored", "--curriculum", "sorted", "--curriculum.by", "prompt_words"]
    run(theirs, PROGRAMS / "curricle-train", "plan", *order, "--output", "plan")
    training = [*order, "--model", tiny_model, "--batch.size", "2", "--max-length", "64", "--batch.tokens", "64"]
    torchrun = [PROGRAMS / "torchrun", "--standalone", "--nproc-per-node", "2", "-m", "curricle.train.cli"]
    run(theirs, *torchrun, "run", *training, "--output", "run")
    assert "WRONG" not in run(theirs, PROGRAMS / "curricle-train", "verify", "run")
    run(theirs, PROGRAMS / "curricle-train", "report", "run")
    run(theirs, PROGRAMS / "curricle-train", "run", *training, "--output", "run")  # there is nothing left to do
    assert (theirs / "run" / "checkpoints" / "step-00000002" / "model.safetensors").exists()
