"""Every command of the trainer, killed before its file operations: the same command ends as an undisturbed one does.

An audit hook counts what Python does to files below the output directory, and dies before a chosen operation. Which of
them are chosen is drawn, see ``drawn``; a soak takes all.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import drawn
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.train.reporting.verification import verify
from kills import outcome

RANDOM = ("--curriculum", "random")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


def die_before(number: int, root: Path, count: Path | None = None) -> Callable[[], None]:
    """From now on a process counts its file operations below a directory, and dies before one of them."""

    def hook() -> None:
        operations, below = 0, os.fspath(root)

        def audit(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal operations
            if event == "open":
                path, _, flags = arguments
                if not (isinstance(flags, int) and flags & WRITES):
                    return
            elif event in OPERATIONS:
                path = arguments[0]
            else:
                return
            if not isinstance(path, str | os.PathLike) or not os.path.abspath(path).startswith(below):
                return
            if operations == number:
                os._exit(99)
            operations += 1
            if count:
                with open(count, "a") as file:
                    file.write(".")

        sys.addaudithook(audit)

    return hook


def contents(run: Path) -> dict[str, object]:
    """What a command has written, but for times and pictures."""
    if (run / "plan.parquet").exists():
        return {"plan": pq.read_table(run / "plan.parquet")}
    if (run / "report.html").exists():
        return {"report": (run / "report.html").read_text().endswith("</html>")}  # pictures draw names of their own
    if (run / "scores.parquet").exists():
        return {
            "scores": pq.read_table(run / "scores.parquet"),
            "report": (run / "reward.json").read_bytes(),
            "model": (run / "model" / "model.safetensors").read_bytes(),
        }
    if (run / "compare.md").exists():
        return {str(each.parent.relative_to(run)): outcome(each.parent) for each in sorted(run.rglob("run.json"))}
    return outcome(run)


@pytest.fixture
def commands(command, table_file, tmp_path, tiny_model) -> Callable[[str, str], list[str]]:
    """The arguments of a short one of each command, for an output directory."""
    table = pq.read_table(table_file)
    answers = pa.array([f"answer {row} of its own" for row in range(len(table))])
    pq.write_table(table.append_column("generated", answers).slice(0, 32), tmp_path / "answers.parquet")
    options = ["--eval.rows", "8", "--eval.every", "2", "--checkpoint.every", "2", "--budget.steps", "4"]

    def arguments(name: str, output: str) -> list[str]:
        path = str(tmp_path / output)
        return {
            "run": command(*options, "--checkpoint.keep", "1", output=output),
            "compare": [
                "compare",
                *command(*options, "--arms", "random,sorted", "--seeds", "1", output=output, without="--curriculum.")[
                    1:
                ],
            ],
            "plan": [
                "plan",
                "--data",
                str(table_file),
                "--output",
                path,
                "--batch.size",
                "8",
                "--curriculum",
                "random",
            ],
            "reward": [
                "reward",
                *("--data", str(tmp_path / "answers.parquet"), "--model", str(tiny_model), "--output", path),
                *("--max-length", "64"),
            ],
            "report": ["report", path],
        }[name]

    return arguments


@pytest.mark.parametrize("name", ["run", "compare", "plan", "reward", "report"])
def test_a_command_that_was_killed_ends_as_one_that_was_not(name, commands, command, train_in_fork, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    if name == "report":
        assert train_in_fork(commands("run", "run")).code == 0
        shutil.copytree(tmp_path / "run", whole)
        shutil.copytree(tmp_path / "run", tmp_path / "begun")
    done = train_in_fork(commands(name, "whole"), die_before(-1, whole, tmp_path / "count"))
    assert done.code == 0, done.text
    operations = len((tmp_path / "count").read_text())
    assert operations >= {"plan": 2, "report": 2}.get(name, 10)
    expected = contents(whole)
    for number in drawn.some(name, range(operations), 3):
        shutil.rmtree(killed, ignore_errors=True)
        if name == "report":
            shutil.copytree(tmp_path / "begun", killed)
        ended = train_in_fork(commands(name, "killed"), die_before(number, killed))
        assert ended.code == 99, f"operation {number} of {operations}: {ended.text}"
        again = train_in_fork(commands(name, "killed"))
        assert again.code == 0, f"after a kill before operation {number} of {operations}: {again.text}"
        assert contents(killed) == expected, f"after a kill before operation {number} of {operations}"
        if name in ("run", "reward"):
            assert not any(finding.faults for finding in verify(killed))
        left = [path.name for path in killed.rglob("*partial*")]
        assert not left, f"left after a kill before operation {number} of {operations}: {left}"
