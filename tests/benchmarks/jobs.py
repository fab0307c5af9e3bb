"""Jobs of `curricle score` in processes of their own, on some of the cores."""

import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from alpaca import FILE
from harness import Contender, timed

CURRICLE = (sys.executable, "-P", "-m", "curricle.pipelines.cli")
"""The command of this code, wherever its scripts lie."""
ONE_CORE = frozenset({min(os.sched_getaffinity(0))})


def repeated(data: Path, rows: int, directory: Path) -> Path:
    """A file of so many lines: those of Alpaca, over and over."""
    result = directory / f"{rows}.jsonl"
    if not result.exists():
        with (data / FILE).open(encoding="utf-8") as lines, result.open("w", encoding="utf-8") as output:
            output.writelines(islice(cycle(lines), rows))
    return result


def run(command: Sequence[object], cores: frozenset[int] | None = None) -> str:
    """Run a command that has to succeed, on these cores, and return what it wrote to standard output."""
    pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, preexec_fn=pin)
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout


def scored(
    sources: Sequence[Path],
    directory: Path,
    *options: str,
    program: Sequence[object] = CURRICLE,
    cores: frozenset[int] | None = None,
) -> Contender:
    """A whole job, from its start to its report. ``sources``: those of the warm-up and of the other rounds.

    Round N leaves its table in ``directory/N``.
    """

    def job(round: int) -> None:
        command = [*program, "score", sources[bool(round)], "--output", directory / str(round)]
        run([*command, "--max-reject-fraction", "1", *options], cores)

    return timed(job)
