"""Kills at chosen instants, and what a run has to be the same in whatever it suffered."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(
    target: object,
    name: str,
    number: int,
    when: Callable[..., bool] = lambda *_: True,
    after: bool = False,
    act: Callable[[], None] = die,
) -> None:
    """Die in the call ``number`` (from 0) of a function, counting those for which ``when`` holds, or ``act`` else."""
    original, calls = getattr(target, name), iter(range(10**9))

    def counted(*args, **kwargs):  # type: ignore[no-untyped-def]
        mine = when(*args) and next(calls) == number
        if mine and not after:
            act()
        result = original(*args, **kwargs)
        if mine:
            act()
        return result

    setattr(target, name, counted)


def outcome(run: Path) -> dict[str, object]:
    """Everything of a training run that must not depend on interruptions."""
    last = sorted((run / "checkpoints").glob("step-*"))[-1]
    cursor = json.loads((last / "state" / "cursor.json").read_text())
    return {
        "step": cursor["step"],
        "order": cursor["order"],
        "weights": (last / "model.safetensors").read_bytes(),
        "optimizer": {
            name: tensor.numpy().tobytes()
            for path in (last / "state" / "optimizer").iterdir()
            for name, tensor in load_file(path).items()
        },
        "journal": (run / "journal.jsonl").read_bytes(),
    }
