"""Wrong commands of a newcomer: what each ends with, says and imports, one after another in one process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

CODE = """
import contextlib, importlib, io, json, sys
main = importlib.import_module(sys.argv[1]).main
for line in sys.stdin:
    with contextlib.redirect_stderr(io.StringIO()) as message, contextlib.redirect_stdout(message):
        code = main(json.loads(line))
    print(json.dumps([code, message.getvalue(), sorted({*sys.argv[2:]} & {*sys.modules})]))
"""


class Outcome(NamedTuple):
    """The exit code, what is printed, and which of the heavy modules are imported by then."""

    code: int
    message: str
    heavy: Sequence[str]


def outcomes(cli: str, commands: Iterable[Sequence[str]], heavy: Sequence[str], cwd: Path) -> list[Outcome]:
    """What comes of each command of the module ``cli``; they write nothing below ``cwd``, where they run."""
    before = sorted(cwd.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE, cli, *heavy],
        input="\n".join(map(json.dumps, commands)),
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(cwd.rglob("*")) == before, "something was written"
    return [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]


def check(outcome: Outcome, *words: str) -> None:
    """It is refused, in one of these words, with what to do, before anything heavy is imported."""
    assert outcome.code == 2, outcome.message
    assert any(each in outcome.message for each in words), outcome.message
    message = outcome.message
    assert message.count("\n") <= 3 and "What to do: " in message and "Traceback" not in message
    assert not outcome.heavy
