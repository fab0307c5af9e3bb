"""The passes of one model over a batch."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from traceback import extract_tb
from typing import Any

from curricle.curate.batch import Batch
from curricle.curate.passes.base import OnProgress, Pass
from curricle.curate.progress import Progress
from curricle.schemas.common.errors import UserError

_asking = threading.Lock()
"""Threads of a process share its model, and a pass may change it while it asks."""


def fill(passes: Sequence[Pass[Any]], batch: Batch, model: Any, on_progress: OnProgress) -> Batch:
    """Ask one model all these passes, which stand ``in_order``: the batch with their answers.

    What goes wrong in a pass of a plug-in is a UserError that names it.
    """
    for _, group in groupby(passes, key=type):
        together = list(group)
        with _blamed(together):
            batch = together[0].fill_together(together, batch, model, on_progress)
    return batch


def ask(passes: Sequence[Pass[Any]], batch: Batch, model: Any, progress: Progress) -> tuple[Batch, int]:
    """``fill``, which tells ``progress``: the batch, and how many tokens went through the proxy, 0 for other models."""
    rows, done = len(batch), 0
    expected = sum(each.work(batch, model) for each in passes)

    def tokens(amount: int) -> int:
        return amount if passes[0].model == "proxy" else 0

    def on_progress(amount: int) -> None:
        nonlocal done
        done += amount
        progress.add(tokens=tokens(amount), in_hand=rows * min(1.0, done / max(1, expected)))

    with _asking:
        return fill(passes, batch, model, on_progress), tokens(done)


@contextmanager
def _blamed(passes: Sequence[Pass[Any]]) -> Iterator[None]:
    """An error that passed by code of others, as one of theirs: their classes, or functions that they gave to ours."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        files = {_file(part): each for each in passes for part in (type(each), *vars(each).values())}
        frames = [frame for frame in extract_tb(error.__traceback__) if frame.filename in files]
        if not frames:
            raise
        raise UserError(
            f"failed: {type(error).__name__}: {error}",
            where=f"pass {files[frames[-1].filename].name}, {frames[-1].filename} line {frames[-1].lineno}",
            remedy="mend the pass, or leave its metric out",
        ) from error


def _file(part: Any) -> str | None:
    """The file that defines a class or a function, unless it is ours."""
    module = getattr(part, "__module__", None) or ""
    return None if module.startswith("curricle.") else getattr(sys.modules.get(module), "__file__", None)
