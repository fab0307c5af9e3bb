"""Record a student's loss on every row while it trains: ``make.py DIRECTORY NAME [option of curricle-train run …]``.

It scores rows of Alpaca, trains the packaged SmolLM2-135M on them with ``curricle-train run``, and asks it about every
row after so many steps as ``RECORDED`` says. The journal of the run holds the answers; NAME.npz, beside this file, is
what is left of them without the texts. The same command goes on where it was.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from curricle.train.curricula.base import Candidate, Curriculum, Decision, Outcome, Probe, ProbeResult, Stage, Steps
from curricle.train.data.table import Table, open_table
from curricle.train.ordering.journal import read_journal
from curricle.train.ordering.replay import recorded_course

HERE = Path(__file__).resolve()
ALPACA = HERE.parents[4] / "shared/data/alpaca/alpaca_46k.jsonl"
MODEL, OTHER, ROWS, BATCH, LENGTH, STEPS = "smollm2-135m", "gemma3-270m", 256, 16, 96, 25
RECORDED = (0, 1, 2, 4, 6, 9, 12, 16, 20, 24)
"""Every row is asked about when so many steps are done: often while the student changes fast."""
ORDERS = ("prompt_words", "response_mtld")
COLUMNS = (*ORDERS, "prompt_tokens", "response_tokens")


@dataclass(frozen=True)
class Recording(Curriculum):
    """Each row once an epoch, a batch at a time: the next unseen rows of the order whose loss is lowest now.

    The orders are those of CAMPUS: two columns, and the loss, sorted again by every answer. So the student goes from
    what is easy for it to what is hard, and what it was trained on says least about what is left.
    """

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        orders = {name: table.order(name, seed) for name in ORDERS}
        step, losses = 0, np.zeros(len(table))
        while True:
            unseen = np.ones(len(table), bool)
            while unseen.any():
                if step in RECORDED:
                    losses = (yield Probe((Candidate("all", np.arange(len(table))),), purpose="record")).scores
                    orders["loss"] = table.sort(losses, seed)
                slices = {name: rows[unseen[rows]][:batch] for name, rows in orders.items()}
                slices = {name: rows for name, rows in slices.items() if len(rows)}
                choice = min(slices, key=lambda name: float(np.nanmean(losses[slices[name]])), default=None)
                rows = slices[choice] if choice else np.flatnonzero(unseen)
                unseen[rows] = False
                step += 1
                yield Stage(rows, choice, outcome=True)

    def decide(self, probe: Probe, result: ProbeResult, seed: int) -> Decision:
        nll, tokens = result.nll[0], result.tokens[0]
        scores = np.divide(nll, tokens, out=np.full(len(nll), np.nan), where=tokens > 0)
        return Decision.of(probe, result, scores=scores)


def sample(target: Path) -> None:
    """Rows whose digest is lowest, of those that have an answer."""
    lines = [line for line in ALPACA.read_text("utf-8").splitlines() if json.loads(line)["output"].strip()]
    lines.sort(key=lambda line: hashlib.sha256(line.encode()).digest())
    target.write_text("\n".join(lines[:ROWS]) + "\n", "utf-8")


def command(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-P", "-m", module, *arguments], check=True)


def score(rows: Path, output: Path, metrics: str, model: str, *more: str) -> Table:
    options = ("--metrics", metrics, "--proxy.model", model, "--proxy.max-length", str(LENGTH), *more)
    command("curricle.pipelines.cli", "score", str(rows), "--output", str(output), *options)
    return open_table(output)


def train(data: Path, output: Path, options: Sequence[str]) -> None:
    command(
        *("curricle.train.cli", "run", "--data", str(data), "--model", MODEL, "--output", str(output)),
        *("--curriculum", f"{HERE}:Recording", "--max-length", str(LENGTH), "--device.precision", "bf16"),
        *("--batch.size", str(BATCH), "--budget.steps", str(STEPS), "--batch.tokens", "2048"),
        *("--checkpoint.every", "8", "--checkpoint.keep", "1", "--log.every", "1", *options),
    )


def extract(table: Table, journal: Path, other: Table, target: Path) -> None:
    """The answers and outcomes of a journal, and the columns of the table, as arrays: see README.md."""
    recorded = read_journal(journal)
    course, records = recorded_course(recorded, table, recorded.header.curriculum), iter(recorded.records)
    losses, stages = [], []
    while (step := course.next()) is not None and (record := next(records, None)) is not None:
        if isinstance(record, Decision):
            course.replay(record)
            losses.append(record.scores)
        elif isinstance(outcome := next(records, None), Outcome):
            course.report(outcome)
            stages.append((np.full(len(step.rows), step.index), step.rows, outcome.nll, outcome.tokens))
        else:
            break  # the budget was spent
    step, row, nll, tokens = (np.concatenate(arrays) for arrays in zip(*stages, strict=True))
    np.savez_compressed(
        target,
        example_id=table.ids,
        **{name: table.numbers(name) for name in COLUMNS},
        other_loss=other.numbers("loss").astype(np.float32),
        recorded=np.array(RECORDED[: len(losses)]),
        losses=np.array(losses, np.float32),
        step=step.astype(np.int16),
        row=row.astype(np.int16),
        nll=nll.astype(np.float32),
        tokens=tokens.astype(np.int16),
    )


def make(directory: Path, name: str, options: Sequence[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    rows, run = directory / "rows.jsonl", directory / name
    if not rows.exists():
        sample(rows)
    table = score(rows, directory / "scored", "length,mtld", MODEL)
    train(directory / "scored", run, options)
    other = score(rows, directory / "other", "loss", OTHER, "--proxy.template", "alpaca")
    extract(table, run / "journal.jsonl", other, HERE.parent / f"{name}.npz")


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
