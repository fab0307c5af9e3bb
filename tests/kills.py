"""Kills at chosen instants, and what a run has to be the same in whatever it suffered."""

import json
import os
import random
import signal
import threading
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
    """Die, or ``act``, in the call ``number`` (from 0) of a function, counting those for which ``when`` holds."""
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


PROBING = ("inside a probe", "after a decision")
"""Instants that only a curriculum that asks has."""
WAITING = "after an outcome"
"""An instant that only a curriculum has that waits for what came of a stage."""


def instants() -> dict[str, Callable[[], None]]:
    """Patches that kill a training run, by when they do."""
    import torch
    from curricle.schemas.common import disk
    from curricle.train.curricula.base import Decision, Outcome
    from curricle.train.model import checkpoint
    from curricle.train.model.student import Student
    from curricle.train.ordering import journal
    from curricle.train.ordering.journal import Journal, StageRecord
    from curricle.train.training import progress

    def half_a_line() -> None:
        original = journal._append

        def half(path: Path, line: str) -> None:
            if '"stage"' in line:
                with path.open("a") as file:
                    file.write(line[: len(line) // 2])
                die()
            original(path, line)

        journal._append = half

    def timer() -> None:
        threading.Timer(random.uniform(0.05, 2), die).start()

    def appended(kind: type) -> Callable[[], None]:
        return lambda: at_call(Journal, "append", 0, lambda _, it: isinstance(it, kind), after=True)

    return {
        "in a line of the journal": half_a_line,
        "between decision and first step": appended(StageRecord),
        "in the first step": lambda: at_call(torch.optim.AdamW, "step", 0),
        "inside a probe": lambda: at_call(Student, "nll", 0, lambda *_: not torch.is_grad_enabled()),
        "after a decision": appended(Decision),
        WAITING: appended(Outcome),
        "while a checkpoint is written": lambda: at_call(checkpoint, "_save_optimizer", 0, after=True),
        "before its name": lambda: at_call(disk, "sync", 3, lambda path: ".step-" in str(path)),
        "after it": lambda: at_call(progress.Window, "pause", 0, after=True),
        "while an old one is removed": lambda: at_call(checkpoint, "_remove", 0, after=True),
        "between backward and step": lambda: at_call(torch.optim.AdamW, "step", 2),
        "at random": timer,  # these last, for a quick machine may have trained to the end by then
        "at random again": timer,
    }
