"""The trainer as a stage of making columns: the command, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curricle.schemas.common import stop
from curricle.schemas.common.command import DONE, HELD, STAGE, USAGE
from curricle.schemas.common.errors import DirectoryLocked, UsageError, UserError

_SMALLER = {"run": "add --train.batch.tokens with less than 8192", "reward": "add --reward.batch-tokens with less"}

_CHECK = "from curricle.train.commands import check_options; check_options()"


def check_options(commands: Sequence[tuple[str, Mapping[str, Any], str]]) -> list[dict[str, Any]]:
    """The options that decide what commands of ``curricle-train`` learn, as JSON, with defaults for what is left out.

    ``commands``: for each its name, its options in groups, and what messages call it. UsageError for an option that it
    does not have, before anything is read.
    """
    if not commands:
        return []
    request = json.dumps([list(each) for each in commands], default=str)
    trainer = subprocess.run([sys.executable, "-P", "-c", _CHECK], input=request, stdout=subprocess.PIPE, text=True)
    if trainer.returncode != DONE:
        raise UserError("the options of `curricle-train` cannot be checked", remedy="see what it says above")
    checked: list[dict[str, Any]] = json.loads(trainer.stdout)
    for one in checked:
        if "found" in one:
            raise UsageError(one["found"], where=one["where"], remedy=one["remedy"])
    return checked


def run_trainer(command: str, output: Path, options: Mapping[str, object]) -> None:
    """Run ``curricle-train COMMAND --output OUTPUT`` to its end; what it says goes where our own lines go.

    It is asked to stop, and saves, where we are. UsageError, DirectoryLocked and UserError where it ends with their
    exit codes.
    """
    _run(command, output, _flags(output, options))


def hand_over(command: str, arguments: Sequence[str]) -> int:
    """Run ``curricle-train COMMAND`` with the arguments of ours, which it reads alone, and return its exit code."""
    return subprocess.run([sys.executable, "-P", "-m", "curricle.train.cli", command, *arguments]).returncode


def write_report(run: Path) -> None:
    """Write the page of a training run: ``curricle-train report RUN``."""
    _run("report", run, [str(run)])


def _flags(output: Path, options: Mapping[str, object]) -> list[str]:
    flags = [f"--output={output}"]
    for key, value in options.items():
        if value in ("true", "false"):
            flags.append(f"--{key}" if value == "true" else f"--no-{key}")
        else:
            flags.append(f"--{key}={value}")
    return flags


def _run(command: str, output: Path, arguments: Sequence[str]) -> None:
    whole = [sys.executable, "-P", "-m", "curricle.train.cli", command, *arguments]
    with subprocess.Popen(whole, env={**os.environ, STAGE: "1"}) as trainer:
        try:
            code = trainer.wait()
        except BaseException:
            trainer.terminate()
            raise
    if code != DONE and stop.requested.is_set():  # it was asked before we were
        raise KeyboardInterrupt
    ended = f"`curricle-train {command}` " + (
        "was killed (SIGKILL), as the kernel does where memory runs out"
        if code == -signal.SIGKILL
        else f"ended with exit code {code}"
    )
    if code == USAGE:
        raise UsageError(ended, where=str(output), remedy="see what it says above")
    if code == HELD:
        raise DirectoryLocked(
            ended, where=str(output), remedy="let the training that is going on there end, and run this again"
        )
    if code != DONE:
        remedy = "see what it says above; the same command goes on from what is whole"
        if code == -signal.SIGKILL:
            remedy = f"if memory ran out, {_SMALLER[command]}; the same command goes on from what is whole"
        raise UserError(ended, where=str(output), remedy=remedy)
