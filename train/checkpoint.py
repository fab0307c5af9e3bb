"""Checkpoints: a Hugging Face model directory, with ``state/`` for what only a resume needs.

``step-00000100/`` loads in transformers and vLLM as it is: plain float32 weights (adapters merged), configuration,
tokenizer. ``state/`` holds the optimizer and the adapters as safetensors, the cursor as JSON, and the journal so far.
It holds no random state: every step seeds its own (train.loop). A checkpoint is written beside its place, flushed and
renamed, so that one with its name is whole. Nothing is unpickled.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from transformers import PreTrainedTokenizerBase

from schemas.errors import UserError
from train.distributed import Processes
from train.model import Student, merged

_NAME = re.compile(r"step-(\d{8})")
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_PREFIX = "model."
"""What Scorer puts before the names of the model."""


@dataclass
class Cursor:
    """How far a run has come. ``order``: the hash of the rows consumed. ``totals``: what it has cost so far."""

    step: int = 0
    order: str = "00" * 16
    records: int = 0
    totals: dict[str, float] = field(default_factory=dict)


def checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in (run / "checkpoints").glob("step-*") if _NAME.fullmatch(path.name))


def read_cursor(checkpoint: Path) -> Cursor:
    try:
        return Cursor(**json.loads((checkpoint / "state" / "cursor.json").read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"the state of the checkpoint cannot be read: {error}",
            where=str(checkpoint),
            remedy="remove this checkpoint to go on from the one before it, or from the start",
        ) from error


def save(
    run: Path,
    cursor: Cursor,
    student: Student,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerBase,
    keep: int,
    processes: Processes,
) -> Path:
    """Write the checkpoint of this step and drop all but the last ``keep``; called by every process.

    UserError if it cannot be written, for example because the disk is full; the one before it is whole then.
    """
    place = run / "checkpoints" / f"step-{cursor.step:08d}"
    if place.exists():
        return place
    weights: dict[str, Any] = {
        name.removeprefix(_PREFIX): weight
        for name, weight in get_model_state_dict(student.scorer, options=_WHOLE).items()
    }
    moments: Any = get_optimizer_state_dict(student.scorer, optimizer, options=_WHOLE).get(
        "state", {}
    )  # the first process has it
    failed = None
    if processes.first:
        try:
            _write(place, cursor, student, weights, moments, tokenizer, run / "journal.jsonl")
            for old in checkpoints(run)[:-keep]:
                _remove(old)
        except (OSError, SafetensorError) as error:
            failed = error
            shutil.rmtree(_beside(place), ignore_errors=True)
    if processes.sum(torch.tensor([failed is not None], dtype=torch.int64).numpy())[0]:
        before = checkpoints(run)
        raise UserError(
            f"the checkpoint could not be written: {failed or 'the first process says why'}",
            where=str(place),
            remedy=f"free space, and run the same command to go on from {before[-1] if before else 'the start'}",
        ) from failed
    return place


def _write(
    place: Path,
    cursor: Cursor,
    student: Student,
    weights: dict[str, torch.Tensor],
    moments: dict[str, dict[str, torch.Tensor]],
    tokenizer: PreTrainedTokenizerBase,
    journal: Path,
) -> None:
    beside = _beside(place)
    shutil.rmtree(beside, ignore_errors=True)
    state = beside / "state"
    state.mkdir(parents=True)
    adapters = {name: weight.contiguous() for name, weight in weights.items() if "lora_" in name}
    plain = merged(student.model, weights)
    for tied in getattr(student.model, "all_tied_weights_keys", None) or {}:
        plain.pop(tied, None)
    student.model.save_pretrained(beside, state_dict=plain)
    tokenizer.save_pretrained(beside)
    if adapters:
        save_file(adapters, state / "adapters.safetensors")
    flat = {f"{name}/{key}": value.contiguous() for name, entry in moments.items() for key, value in entry.items()}
    save_file(flat, state / "optimizer.safetensors")
    (state / "cursor.json").write_text(json.dumps(asdict(cursor)))
    shutil.copyfile(journal, state / "journal.jsonl")
    for path in [*beside.rglob("*"), beside]:
        _sync(path)
    os.rename(beside, place)
    _sync(place.parent)


def load_weights(checkpoint: Path, student: Student) -> None:
    """Put a checkpoint's adapters into a student that has them; full weights are loaded with the model."""
    path = checkpoint / "state" / "adapters.safetensors"
    if path.exists():
        adapters: dict[str, Any] = {_PREFIX + name: weight for name, weight in load_file(path).items()}
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(student.scorer, adapters, options=options)


def load_optimizer(checkpoint: Path, student: Student, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's moments into an optimizer, whatever the number of processes that wrote them."""
    state: dict[str, Any] = {}
    for key, value in load_file(checkpoint / "state" / "optimizer.safetensors").items():
        name, _, kind = key.rpartition("/")
        state.setdefault(name, {})[kind] = value
    names = {id(parameter): name for name, parameter in student.scorer.named_parameters()}
    groups = [
        {**group, "params": [names[id(parameter)] for parameter in group["params"]]} for group in optimizer.param_groups
    ]
    set_optimizer_state_dict(
        student.scorer,
        optimizer,
        {"state": state, "param_groups": groups},
        options=StateDictOptions(full_state_dict=True),
    )


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Only one process trains in a directory; the lock goes with its process, however that ends."""
    import fcntl

    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                "another process is training in this directory", where=str(run), remedy="wait for it, or stop it first"
            ) from error
        for stale in (run / "checkpoints").glob(".step-*"):
            shutil.rmtree(stale)
        yield


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}.partial")


def _remove(checkpoint: Path) -> None:
    """First out of its name, so that a kill in between does not leave half a checkpoint that looks whole."""
    gone = checkpoint.with_name(f".{checkpoint.name}.old")
    os.rename(checkpoint, gone)
    shutil.rmtree(gone)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
