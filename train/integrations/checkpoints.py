"""What a curriculum leaves in the checkpoints of a trainer, and which of them are whole."""

import json
import logging
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger("curricle")

FOLDER = "curricle"
"""In a checkpoint of the trainer: the journal so far, and the losses of the stage that it was made in."""
STATE = "curricle"
"""Under ``stateful_callbacks`` of ``trainer_state.json``: how far the order has come."""
_STATE_FILE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The last whole checkpoint below a trainer's ``output_dir``, for ``resume_from_checkpoint``; None if none is.

    transformers writes a checkpoint file by file under its final name, and takes the one with the largest number, also
    one that a kill has left half written. ``trainer_state.json`` comes last of what the first process writes.
    """
    candidates = [path for path in Path(output_dir).glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    for path in sorted(candidates, key=lambda path: int(path.name.split("-")[1]), reverse=True):
        if (lacks := _lacks(path)) is None:
            return str(path)
        log.warning("%s is passed over: %s", path, lacks)
    return None


def _lacks(checkpoint: Path) -> str | None:
    """What a checkpoint lacks to be gone on from; None if nothing."""
    try:
        state = json.loads((checkpoint / _STATE_FILE).read_text("utf-8"))
    except FileNotFoundError:
        return f"it has no {_STATE_FILE}, so that it was not written to its end"
    except ValueError as error:
        return f"{_STATE_FILE} cannot be read: {error}"
    processes = _of(state.get("stateful_callbacks") or {}).get("processes")
    if processes is None:
        rng = [path.name for path in checkpoint.glob("rng_state*.pth")]
    else:
        rng = [f"rng_state_{rank}.pth" for rank in range(processes)] if processes > 1 else ["rng_state.pth"]
    names = [*rng, *(name for name in ("optimizer.pt", "scheduler.pt") if (checkpoint / name).exists())]
    return next((f"{name} is absent or not whole" for name in names if not _is_whole(checkpoint / name)), None)


def _is_whole(path: Path) -> bool:
    """Whether torch wrote a file to its end, where a ZIP archive has its directory."""
    return path.exists() and zipfile.is_zipfile(path)


def order_state(trainer_state: Any) -> dict[str, Any]:
    """What the state of a trainer has of an order; nothing where it has none."""
    return _of(trainer_state.stateful_callbacks or {})


def keep_order_state(trainer_state: Any, state: Mapping[str, Any]) -> None:
    """Put it into the state of a trainer, and so into the checkpoints that follow."""
    trainer_state.stateful_callbacks[STATE] = dict(state)


def _of(callbacks: Mapping[str, Any]) -> dict[str, Any]:
    state = callbacks.get(STATE)
    return dict(state) if isinstance(state, Mapping) else {}
