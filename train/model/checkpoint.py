"""Checkpoints: a Hugging Face model directory, with ``state/`` for what only a resume needs.

``step-00000100/`` loads in transformers and vLLM as it is: plain float32 weights (adapters merged), configuration,
tokenizer. ``adapter/``, where there are adapters, holds them as peft knows them. ``state/`` holds the optimizer as
safetensors, the cursor as JSON, the journal so far, and the losses of the current stage if its curriculum asks for
them. Every process writes the part of the optimizer that it has, and reads the part that it needs, whatever the number
of processes then and now. There is no random state: every step seeds its own (train.training.loop). A checkpoint is
written beside its path, flushed and renamed, so that one with its name is whole. Nothing is unpickled from disk.
"""

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from curricle.schemas.common.disk import beside, publish
from curricle.schemas.common.errors import Divergence, UserError
from curricle.schemas.contract import tagged
from curricle.schemas.sealed import sealed
from curricle.schemas.sums import sums_of
from curricle.train.distributed import Processes
from curricle.train.model.lora import ADAPTER, load_adapter, merged, save_adapter
from curricle.train.model.student import Student
from curricle.train.records.checkpoints import (
    DIGESTS,
    Cursor,
    check,
    checkpoints,
    last_of,
    name_of,
    point,
    surplus,
    unreadable,
)
from curricle.train.settings import CheckpointSettings
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor
from transformers import PreTrainedTokenizerBase

log = logging.getLogger("curricle")

OUTCOME = "outcome.safetensors"
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_PREFIX = "model."
"""What Scorer puts before the names of the model."""


def check_together(checkpoint: Path, processes: Processes) -> None:
    """``check`` by the first process, which all of several wait for: it reads every byte, and once is enough."""
    failed: UserError | None = None
    try:
        if processes.first:
            check(checkpoint)
    except UserError as error:
        failed = error
    if processes.sum(np.array([failed is not None], np.int64))[0]:
        raise failed or unreadable(checkpoint, "the first process says why")


def save(
    run: Path,
    cursor: Cursor,
    student: Student,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerBase,
    settings: CheckpointSettings,
    journal: Path,
    processes: Processes,
    losses: Mapping[str, NDArray[np.generic]] | None = None,
) -> Path:
    """Write the checkpoint of this step and drop what is not to stay; called by every process.

    ``journal``: of the run so far. ``losses``: of the rows of the current stage that were trained on, if it asks for
    its outcome.
    UserError if it cannot be written, for example because the disk is full, Divergence if a weight or a moment is not
    finite; the one before it is whole then.
    """
    directory = run / "checkpoints" / name_of(cursor.step)
    if directory.exists():
        return directory
    # The first process gets the weights; all give back those that fsdp leaves gathered after an evaluation.
    weights: dict[str, Any] = get_model_state_dict(student.scorer, options=_WHOLE)
    moments = _moments(get_optimizer_state_dict(student.scorer, optimizer))
    _check_finite(run, cursor.step, {**(weights if processes.first else {}), **moments}, processes)
    failed: BaseException | None = None
    try:
        _save_optimizer(beside(directory), moments, processes)
        if processes.first:
            _write(directory, cursor, student, weights, tokenizer, journal, losses)
            point(run)
            for old in surplus(checkpoints(run), settings.every, settings.keep):
                _remove(old)
    except (OSError, SafetensorError, CheckpointException) as error:
        failed = error
    if processes.sum(np.array([failed is not None], np.int64))[0]:
        if processes.first:
            shutil.rmtree(beside(directory), ignore_errors=True)
        raise UserError(
            f"the checkpoint could not be written: {_reason(failed) if failed else 'the first process says why'}",
            where=str(directory),
            remedy=f"free space, and run the same command to go on from {last_of(run)}",
        ) from failed
    return directory


def _write(
    directory: Path,
    cursor: Cursor,
    student: Student,
    whole: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    journal: Path,
    losses: Mapping[str, NDArray[np.generic]] | None,
) -> None:
    partial = beside(directory)
    state = partial / "state"
    weights = {name.removeprefix(_PREFIX): weight for name, weight in whole.items()}
    plain = merged(student.model, weights)
    for tied in getattr(student.model, "all_tied_weights_keys", None) or {}:
        plain.pop(tied, None)
    student.model.save_pretrained(partial, state_dict=plain)
    _save_tokenizer(tokenizer, partial)
    save_adapter(partial / ADAPTER, student.model, weights)
    (state / "cursor.json").write_text(json.dumps(tagged("cursor", asdict(cursor))))
    shutil.copyfile(journal, state / journal.name)
    if losses:
        save_arrays(dict(losses), state / OUTCOME)
    names = sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file())
    (partial / DIGESTS).write_text(sealed(json.dumps(sums_of(partial, names), indent=1)))
    publish(directory)


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, partial: Path) -> None:
    try:
        tokenizer.save_pretrained(partial)
    except Exception as error:  # what is written in Rust says with no type of its own that the disk is full
        if type(error) is not Exception:
            raise
        raise OSError(str(error)) from error


def load_weights(checkpoint: Path, student: Student) -> None:
    """Put a checkpoint's adapters into a student that has them; full weights are loaded with the model."""
    try:
        adapters = load_adapter(checkpoint / ADAPTER)
        if (earlier := checkpoint / "state" / "adapters.safetensors").exists():  # of an earlier version
            adapters = load_file(earlier)
    except (OSError, SafetensorError) as error:
        raise unreadable(checkpoint, error) from error
    if adapters:
        options = StateDictOptions(full_state_dict=True, strict=False)
        prefixed: dict[str, Any] = {_PREFIX + name: weight for name, weight in adapters.items()}
        set_model_state_dict(student.scorer, prefixed, options=options)


def load_losses(checkpoint: Path) -> dict[str, NDArray[np.generic]]:
    """The losses of the stage in which a checkpoint was made, as ``save`` got them; nothing if it got none."""
    path = checkpoint / "state" / OUTCOME
    try:
        return load_arrays(path) if path.exists() else {}
    except (OSError, SafetensorError) as error:
        raise unreadable(checkpoint, error) from error


def load_optimizer(checkpoint: Path, student: Student, optimizer: torch.optim.Optimizer, processes: Processes) -> None:
    """Put a checkpoint's moments into an optimizer, whatever the number of processes that wrote them."""
    state: dict[str, Any] = get_optimizer_state_dict(student.scorer, optimizer)
    try:
        with _alone():
            dcp.load(
                _moments(state),
                storage_reader=HuggingFaceStorageReader(str(checkpoint / "state" / "optimizer")),
                process_group=processes.group,
                no_dist=processes.group is None,
            )
    except (CheckpointException, OSError, SafetensorError) as error:
        raise unreadable(checkpoint, _reason(error)) from error
    set_optimizer_state_dict(student.scorer, optimizer, state)


def _check_finite(run: Path, step: int, tensors: Mapping[str, torch.Tensor], processes: Processes) -> None:
    """Divergence if a weight or a moment is not finite: a step that overflows shows in the next one's loss only."""
    bad = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if processes.sum(np.array([len(bad)]))[0]:
        which = f"{bad[0].removeprefix(_PREFIX)} among them" if bad else "another process says which"
        raise Divergence(
            f"weights or moments are not finite after step {step} ({which}), and no checkpoint of them is made",
            where=str(run),
            remedy=f"lower --optimizer.lr, with another --output; what there is, up to {last_of(run)}, is whole",
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    part = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    if not part.is_floating_point() or not part.numel():
        return True
    return bool(torch.stack(torch.aminmax(part)).isfinite().all())  # a NaN is both the least and the greatest


def _save_optimizer(partial: Path, moments: dict[str, Any], processes: Processes) -> None:
    with _alone():
        dcp.save(
            moments,
            storage_writer=HuggingFaceStorageWriter(str(partial / "state" / "optimizer"), save_distributed=True),
            process_group=processes.group,
            no_dist=processes.group is None,
        )


@contextmanager
def _alone() -> Iterator[None]:
    """Without torch's warning, at every save and load, that one process is what ``no_dist`` asks for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _moments(state: dict[str, Any]) -> dict[str, Any]:
    """The tensors of an optimizer's state, by parameter and kind: views, of which each process has its shard."""
    return {
        f"{name}/{kind}": value.reshape(-1) if value.dim() == 0 else value
        for name, entry in state["state"].items()
        for kind, value in entry.items()
    }


def _reason(error: BaseException) -> str:
    """What went wrong, and where: one line, of the first process that failed."""
    if isinstance(error, CheckpointException):
        rank, (cause, _) = next(iter(error.failures.items()))
        return f"process {rank}: {cause}"
    return str(error)


def _remove(checkpoint: Path) -> None:
    """First out of its name, so that a kill in between does not leave half a checkpoint that looks whole."""
    gone = checkpoint.with_name(f".{checkpoint.name}.old")
    os.rename(checkpoint, gone)
    shutil.rmtree(gone)
