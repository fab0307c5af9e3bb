"""`curricle-train reward`: read the states of all pairs, fit the head, save the model, score every row.

CAMPUS's fourth perspective is "a learned scoring model" that competes with the model in training; how the paper trains
it, on which pairs, with which body and how often, is not known. This is our reading (METHODS 1.4, S1): the reference
is preferred to the model's own answer, -log σ(r(x, y_ref) - r(x, y_gen)) is minimised, and the gap between the two
rewards is the difficulty. The body is frozen and only the head is fitted, which costs one forward pass an answer. The
gaps of the pairs that were learned from are larger than those of others would be; the measure is the held-out pairs.
"""

import json
import logging
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from schemas.columns import ScoreColumn
from schemas.disk import check_writable, replacing, write_whole
from schemas.errors import UserError
from schemas.table import NOTES_FIELD
from train.checkpoint import locked
from train.description import describe, finished_at
from train.distributed import Processes
from train.encoding import Encoder
from train.model import Student, load_model, load_tokenizer
from train.probe import CHUNK
from train.reward.head import Accuracy, fit, held_out
from train.reward.model import check_architecture, save_reward_model
from train.reward.pairs import Remarks, last_states, read_pairs
from train.reward.settings import RewardSettings
from train.settings import BatchSettings
from train.table import Table, open_table

log = logging.getLogger("curricle")

MODEL, SCORES, REPORT, STATES = "model", "scores.parquet", "reward.json", "states"

COLUMNS = (
    ScoreColumn("reward_reference", pa.float64(), "reward", "of the response, by a model that prefers it"),
    ScoreColumn("reward_generated", pa.float64(), "reward", "of the answer that the language model gave itself"),
    ScoreColumn(
        "reward_gap",
        pa.float64(),
        "log odds",
        "reward_reference - reward_generated: how much better the response is than what the language model can do",
        hard="high",
    ),
)


def reward(settings: RewardSettings, processes: Processes) -> Path:
    """Fit and score, or go on with it, and return the directory.

    UsageError for what is wrong before anything is written; UserError where there is no pair to learn from.
    """
    table = open_table(settings.data, settings.join)
    if finished_at(settings, table) is not None:
        log.info("the reward model is finished: there is nothing left to do")
        if processes.first:  # a kill may have left them
            shutil.rmtree(settings.output / STATES, ignore_errors=True)
        return settings.output
    check_writable(settings.output)
    generated = table.texts(settings.generated)
    encoder = Encoder(load_tokenizer(settings.model), settings.template, settings.max_length)
    model = load_model(settings.model, settings.device.attention)
    check_architecture(model)
    how = BatchSettings(tokens=max(settings.batch_tokens, settings.max_length))
    student = Student(model, settings.device, processes, how, settings.max_length)
    if not processes.first:
        processes.barrier()
        _read_states(settings, table, generated, encoder, student, processes)
        return settings.output
    with locked(settings.output):
        describe(settings, table)
        (settings.output / STATES).mkdir(exist_ok=True)
        processes.barrier()
        _read_states(settings, table, generated, encoder, student, processes)
        _finish(settings, table, encoder)
        describe(settings, table, finished=len(table))
        shutil.rmtree(settings.output / STATES)
    return settings.output


def _read_states(
    settings: RewardSettings,
    table: Table,
    generated: pa.ChunkedArray,
    encoder: Encoder,
    student: Student,
    processes: Processes,
) -> None:
    """Write the last hidden state of both answers of every row, a file for some rows; those that are there stay."""
    starts = range(0, len(table), CHUNK)
    there = [_states(settings, index).exists() and processes.first for index in range(len(starts))]
    done = int(processes.sum(np.array([sum(there)]))[0])
    for index, start in enumerate(starts):
        if index < done:
            continue
        rows = np.arange(start, min(start + CHUNK, len(table)))
        pairs = read_pairs(encoder, table.examples(rows), generated.take(pa.array(rows)).to_pylist())
        states, _ = last_states(student, pairs, max(settings.batch_tokens, settings.max_length), processes)
        if processes.first:
            with replacing(_states(settings, index)) as partial:
                save_file({"states": states}, partial, {"remarks": json.dumps([pair.remarks for pair in pairs])})
            log.info("read %s of %s rows", f"{rows[-1] + 1:,}", f"{len(table):,}")


def _states(settings: RewardSettings, index: int) -> Path:
    return settings.output / STATES / f"{index:06d}.safetensors"


def _finish(settings: RewardSettings, table: Table, encoder: Encoder) -> None:
    """Fit the head, and write model, scores and report, from states that are all there."""
    files = sorted((settings.output / STATES).glob("*.safetensors"))
    remarks = [row for path in files for row in _load(path)[1]]
    left_out = Counter(row.left_out for row in remarks if row.left_out)
    good = np.array([row.left_out is None for row in remarks])
    held = held_out(table.ids[good], settings.holdout, settings.seed)
    if held.all():
        raise UserError(
            "there is no pair to learn from: " + ", ".join(f"{n:,} rows: {why}" for why, n in left_out.items()),
            where=str(settings.data),
            remedy="look at the column of generated answers",
        )
    differences = np.concatenate([states[0] - states[1] for states, _ in map(_load, files)])[good]
    weight = fit(differences[~held], settings.l2).astype(np.float32)
    gaps = differences.astype(np.float64) @ weight
    accuracy = {"held_out": Accuracy.of(gaps[held]), "learned_from": Accuracy.of(gaps[~held])}
    log.info("the reference is ranked first in %s held out", accuracy["held_out"])
    for reason, rows in left_out.items():
        log.info("  left out of the pairs: %d rows: %s", rows, reason)

    plain = load_model(settings.model, settings.device.attention)
    stops = encoder.stops(plain.config)
    save_reward_model(settings.output / MODEL, plain, weight, load_tokenizer(settings.model), stops)
    rewards = np.concatenate([states.astype(np.float64) @ weight for states, _ in map(_load, files)], axis=1)
    _write_scores(settings, table, rewards, remarks)
    report: dict[str, Any] = {
        "rows": len(table),
        "accuracy": {name: share._asdict() for name, share in accuracy.items()},
        "left_out": dict(left_out),
        "template": settings.template,
        "max_length": settings.max_length,
    }
    write_whole(settings.output / REPORT, json.dumps(report, indent=1))


def _load(path: Path) -> tuple[NDArray[np.float32], list[Remarks]]:
    """The states (2, N, H) of some rows, and what is to be said of them."""
    with safe_open(path, "numpy") as file:
        return file.get_tensor("states"), [Remarks(*row) for row in json.loads(file.metadata()["remarks"])]


def _write_scores(settings: RewardSettings, table: Table, rewards: NDArray[np.float64], remarks: list[Remarks]) -> None:
    """``scores.parquet``: example_id, the columns and notes, in the table's order."""
    values = dict(zip(("reward_reference", "reward_generated"), rewards, strict=True))
    values["reward_gap"] = rewards[0] - rewards[1]
    notes = []
    for each in remarks:
        missing = (each.reference, each.generated, each.reference or each.generated)
        row = [f"{name}: {reason}" for name, reason in zip(values, missing, strict=True) if reason]
        if each.cut:
            row.append(f"reward_gap: an answer is cut at {settings.max_length} tokens")
        notes.append(row or None)
    params = {name: getattr(settings, name) for name in ("holdout", "seed", "l2", "template", "max_length")}
    columns = [column.made_by("reward", 1, params) for column in COLUMNS]
    schema = pa.schema([("example_id", pa.string()), *(column.to_field() for column in columns), NOTES_FIELD])
    arrays = [
        table.texts("example_id").cast(pa.string()),
        *(pa.array(values[column.name], from_pandas=True) for column in columns),
        pa.array(notes, NOTES_FIELD.type),
    ]
    with replacing(settings.output / SCORES) as partial:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), partial)
