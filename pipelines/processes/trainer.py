"""The trainer as a stage of making columns: the command, in a process of its own."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from curricle.schemas.common.command import DONE, HELD, USAGE
from curricle.schemas.common.errors import DirectoryLocked, UsageError, UserError


def run_trainer(command: str, output: Path, options: Mapping[str, object]) -> None:
    """Run ``curricle-train COMMAND --output OUTPUT`` to its end; what it says goes where our own lines go.

    It is asked to stop, and saves, where we are. UsageError, DirectoryLocked and UserError where it ends with their
    exit codes.
    """
    flags = [f"--output={output}"]
    for key, value in options.items():
        if value in ("true", "false"):
            flags.append(f"--{key}" if value == "true" else f"--no-{key}")
        else:
            flags.append(f"--{key}={value}")
    with subprocess.Popen([sys.executable, "-P", "-m", "curricle.train.cli", command, *flags]) as trainer:
        try:
            code = trainer.wait()
        except BaseException:
            trainer.terminate()
            raise
    ended = f"`curricle-train {command}` ended with exit code {code}"
    if code == USAGE:
        raise UsageError(ended, where=str(output), remedy="see what it says above")
    if code == HELD:
        raise DirectoryLocked(
            ended, where=str(output), remedy="let the training that is going on there end, and run this again"
        )
    if code != DONE:
        remedy = "see what it says above; the same command goes on from what is whole"
        raise UserError(ended, where=str(output), remedy=remedy)
