"""`curricle-train reward`: read the states of all pairs, fit the head, save the model, score every row.

CAMPUS's fourth perspective is "a learned scoring model" that competes with the model in training; how the paper trains
it, on which pairs, with which body and how often, is not known. This is our reading (docs/methods.md, "Scoring model"):
the reference is preferred to the model's own answer, -log σ(r(x, y_ref) - r(x, y_gen)) is minimised, and the gap
between the two rewards is the difficulty. The body is frozen and only the head is fitted, which costs one forward pass
an answer.

A gap of a pair that a head has learned from is larger than that of another. So heads are cross-fitted: every row is
scored, and every pair counted in the accuracy, by a head that has not seen it. The model that is saved has one head,
fitted on all pairs.
"""

import json
import logging
import shutil
from collections import Counter
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from curricle.schemas.chat.models import embeddings
from curricle.schemas.columns import REWARD_VERSION, ScoreColumn
from curricle.schemas.common.disk import check_writable, replacing, write_whole
from curricle.schemas.common.errors import UserError
from curricle.schemas.sums import damaged, sums_of
from curricle.schemas.table import NOTES_FIELD
from curricle.train.data.correlation import spearman
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.data.table import Table
from curricle.train.distributed import Processes
from curricle.train.model.load import load_model, load_tokenizer
from curricle.train.model.probe import CHUNK
from curricle.train.model.student import Student
from curricle.train.records.checkpoints import locked
from curricle.train.rewards.head import FOLDS, Accuracy, cross_fit, fit, folds, rewards
from curricle.train.rewards.model import check_architecture, save_reward_model
from curricle.train.rewards.pairs import GeneratedAnswers, Remarks, last_states, read_pairs
from curricle.train.rewards.preparation import RewardPreparation, digest_without, prepare
from curricle.train.settings import BatchSettings, RewardSettings
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

log = logging.getLogger("curricle")

MODEL, SCORES, REPORT, STATES = "model", "scores.parquet", "reward.json", "states"
LOSS = "loss"
READING = "reading the answers"

COLUMNS = (
    ScoreColumn(
        "reward_reference",
        pa.float64(),
        "reward",
        "of the response, by a model that prefers it, which has not seen this row; 0 is the mean of all answers",
    ),
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
    """``prepare`` and ``fit_and_score``."""
    return fit_and_score(prepare(settings), processes)


def fit_and_score(prepared: RewardPreparation, processes: Processes) -> Path:
    """Fit and score, or go on with it, and return the directory.

    UsageError for what is wrong before anything is written; UserError where there is no pair to learn from.
    """
    settings, table, out, description = prepared.settings, prepared.table, prepared.out, prepared.description
    before = prepared.before
    if before.get("finished") is not None:
        wrong = damaged(settings.output, before.get("files", {}), every_byte=False)
        if not wrong:
            log.info("the reward model is finished: there is nothing left to do")
            if processes.first:  # a kill may have left them
                shutil.rmtree(settings.output / STATES, ignore_errors=True)
            return settings.output
        log.warning("what was made is not whole, and is made again: %s", "; ".join(wrong))
        check_writable(settings.output)
    answers = GeneratedAnswers(table, settings.generated)
    loss = table.numbers(LOSS) if LOSS in table.columns else None
    encoder = ConversationTokenizer(load_tokenizer(settings.model), settings.template, settings.max_length)
    log.info("loading the model", extra={"figures": {"phase": "loading the model"}})
    model = load_model(settings.model, settings.device.attention)
    check_architecture(model)
    encoder.vocabulary = embeddings(model)
    how = BatchSettings(tokens=max(settings.batch_tokens, settings.max_length))
    student = Student(model, settings.device, processes, how, settings.max_length)
    if not processes.first:
        processes.barrier()
        _read_states(settings, table, answers, encoder, student, processes)
        return settings.output
    for remark in filter(None, (*table.notes, answers.remark)):
        log.info("%s", remark)
    with locked(settings.output):
        description.write()
        (settings.output / STATES).mkdir(exist_ok=True)
        processes.barrier()
        _read_states(settings, table, answers, encoder, student, processes)
        _finish(settings, table, out, loss, encoder)
        paths = [path for path in (settings.output / MODEL).rglob("*") if path.is_file()]
        paths += [settings.output / name for name in (SCORES, REPORT)]
        names = sorted(path.relative_to(settings.output).as_posix() for path in paths)
        description.write(finished=len(table), files=sums_of(settings.output, names))
        shutil.rmtree(settings.output / STATES)
    return settings.output


def _read_states(
    settings: RewardSettings,
    table: Table,
    answers: GeneratedAnswers,
    encoder: ConversationTokenizer,
    student: Student,
    processes: Processes,
) -> None:
    """Write the last hidden state of both answers of every row, a file for some rows; those that are there stay."""
    starts = range(0, len(table), CHUNK)
    there = processes.sum(
        np.array([processes.first and _is_whole(_states(settings, each)) for each in range(len(starts))])
    )
    for index, start in enumerate(starts):
        if there[index]:
            continue
        rows = np.arange(start, min(start + CHUNK, len(table)))
        pairs = read_pairs(encoder, table.examples(rows), answers.of(rows))
        states, _ = last_states(student, pairs, max(settings.batch_tokens, settings.max_length), processes)
        if processes.first:
            with replacing(_states(settings, index)) as partial:
                remarks = json.dumps([pair.remarks for pair in pairs])
                save_file({"states": states}, partial, {"remarks": remarks, "digest": _digest(states, remarks)})
            figures = {"phase": READING, "records": len(table), "records_done": int(rows[-1]) + 1}
            log.info("read %s of %s rows", f"{rows[-1] + 1:,}", f"{len(table):,}", extra={"figures": figures})


def _states(settings: RewardSettings, index: int) -> Path:
    return settings.output / STATES / f"{index:06d}.safetensors"


def _finish(
    settings: RewardSettings,
    table: Table,
    out: NDArray[np.bool_],
    loss: NDArray[np.float64] | None,
    encoder: ConversationTokenizer,
) -> None:
    """Fit the heads, and write model, scores and report, from states that are all there."""
    log.info("fitting the heads", extra={"figures": {"phase": "fitting the heads", "records": len(table)}})
    files = sorted((settings.output / STATES).glob("*.safetensors"))
    remarks = [row for path in files for row in _load(path)[1]]
    without = Counter(row.left_out for row in remarks if row.left_out)
    usable = np.array([row.left_out is None for row in remarks])
    good = usable & ~out
    fold = folds(table.ids, good, settings.seed)
    if len(np.unique(fold[good])) < 2:
        count_in_words = "no pair" if not good.any() else "one pair alone, and none that could score it,"
        raise UserError(
            f"there is {count_in_words} to learn from: "
            + ", ".join(f"{n:,} rows: {why}" for why, n in (without | _named(out)).items()),
            where=str(settings.data),
            remedy="look at the column of generated answers",
        )
    differences = np.concatenate([states[0] - states[1] for states, _ in map(_load, files)])
    heads = cross_fit(differences, good, fold, settings.l2)
    weight = fit(differences[good], settings.l2).astype(np.float32)
    learned_from = Accuracy.of(differences[good].astype(np.float64) @ weight)
    del differences

    plain = load_model(settings.model, settings.device.attention)
    stops = encoder.stops(plain.config)
    save_reward_model(settings.output / MODEL, plain, weight, load_tokenizer(settings.model), stops)
    scores = _rewards(files, heads, good, fold)
    gaps = scores[0] - scores[1]
    _write_scores(settings, table, out, scores, remarks)
    accuracy = {"held_out": Accuracy.of(gaps[good]), "learned_from": learned_from}
    log.info("the reference is ranked first in %s, each by a head that has not seen it", accuracy["held_out"])
    if out.any():
        accuracy["left_out"] = Accuracy.of(gaps[usable & out])
        log.info("of the rows that --leave-out names, in %s", accuracy["left_out"])
    for reason, rows in without.items():
        log.info("  left out of the pairs: %d rows: %s", rows, reason)
    rho = _correlations(gaps, remarks, loss)
    figures = (f"{name} {'-' if value is None else f'{value:.2f}'}" for name, value in rho.items())
    log.info("  Spearman's rho of reward_gap with %s", ", ".join(figures))
    report: dict[str, Any] = {
        "rows": len(table),
        "folds": FOLDS,
        "accuracy": {name: share._asdict() for name, share in accuracy.items()},
        "spearman": rho,
        "left_out": dict(without) | _named(out),
        "template": settings.template,
        "max_length": settings.max_length,
    }
    write_whole(settings.output / REPORT, json.dumps(report, indent=1))


def _named(out: NDArray[np.bool_]) -> dict[str, int]:
    """How many rows are left out because they are named, by the reason; nothing if none is."""
    return {"it stands in --leave-out": int(out.sum())} if out.any() else {}


def _rewards(
    files: list[Path], heads: NDArray[np.float64], good: NDArray[np.bool_], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The rewards of both answers of every row (2, N).

    A fit of differences leaves a constant open in each head. It is set so that the pairs that the head has learned from
    have a mean of 0: heads would differ by more than the rewards of one do.
    """
    parts, sums, start = [], np.zeros((len(heads), heads.shape[1])), 0
    for path in files:
        states, remarks = _load(path)
        rows = slice(start, start + len(remarks))
        start += len(remarks)
        parts.append(rewards(states, heads, fold[rows]))
        np.add.at(sums, fold[rows][good[rows]], states[:, good[rows]].astype(np.float64).mean(0))
    counts = np.bincount(fold[good], minlength=len(heads))[:, None]
    means = (sums.sum(0) - sums) / (counts.sum() - counts)
    return np.concatenate(parts, axis=1) - np.einsum("fh,fh->f", heads, means)[fold]


def _correlations(
    gaps: NDArray[np.float64], remarks: list[Remarks], loss: NDArray[np.float64] | None
) -> dict[str, float | None]:
    """How the gaps go along with lengths, as the model reads them, and with the loss, if the table has it."""
    pairs = [(row.reference_tokens, row.generated_tokens) for row in remarks]
    reference, generated = np.array(pairs, np.float64).T
    others = {
        "response_tokens": reference,
        "generated_tokens": generated,
        "response_tokens - generated_tokens": reference - generated,
    }
    if loss is not None:
        others[LOSS] = loss
    return {name: spearman(gaps, values) for name, values in others.items()}


def _load(path: Path) -> tuple[NDArray[np.float32], list[Remarks]]:
    """The states (2, N, H) of some rows, and what is to be said of them. ValueError if they are not as written."""
    with safe_open(path, "numpy") as file:
        states, metadata = file.get_tensor("states"), file.metadata()
    if "digest" in metadata and metadata["digest"] != _digest(states, metadata["remarks"]):
        raise ValueError("the states are not as they were written")
    return states, [Remarks(*row) for row in json.loads(metadata["remarks"])]


def _digest(states: NDArray[np.float32], remarks: str) -> str:
    return blake2b(np.ascontiguousarray(states).tobytes() + remarks.encode(), digest_size=16).hexdigest()


def _is_whole(path: Path) -> bool:
    """Whether some rows need not be read again."""
    try:
        return path.exists() and bool(_load(path))
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        log.warning("%s is damaged, and made again: %s", path, error)
        return False


def _write_scores(
    settings: RewardSettings,
    table: Table,
    out: NDArray[np.bool_],
    rewards: NDArray[np.float64],
    remarks: list[Remarks],
) -> None:
    """``scores.parquet``: example_id, the columns and notes, in the table's order."""
    values = dict(zip(("reward_reference", "reward_generated"), rewards, strict=True))
    values["reward_gap"] = rewards[0] - rewards[1]
    notes = []
    for each, left in zip(remarks, out.tolist(), strict=True):
        missing = (each.reference, each.generated, each.reference or each.generated)
        row = [f"{name}: {reason}" for name, reason in zip(values, missing, strict=True) if reason]
        if each.cut:
            row.append(f"reward_gap: an answer is cut at {settings.max_length} tokens")
        if left and each.left_out is None:
            row.append("reward_gap: no head has learned from this row, which is left out")
        notes.append(row or None)
    params = {name: getattr(settings, name) for name in ("seed", "l2", "template", "max_length")}
    params |= {"without": without} if (without := digest_without(table, out)) else {}
    columns = [column.of_metric("reward", REWARD_VERSION, {"folds": FOLDS, **params}) for column in COLUMNS]
    schema = pa.schema([("example_id", pa.string()), *(column.to_field() for column in columns), NOTES_FIELD])
    arrays = [
        table.texts("example_id").cast(pa.string()),
        *(pa.array(values[column.name], from_pandas=True) for column in columns),
        pa.array(notes, NOTES_FIELD.type),
    ]
    with replacing(settings.output / SCORES) as partial:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), partial)
