"""Trainers of others on an order of ours: what they consume is the plan, and a kill changes nothing.

Every run is a process of its own, forked, or two that meet as torchrun would have them meet.
"""

import json
import os
import signal
from pathlib import Path

import pytest
from curricle import train
from curricle.train import integrations
from drawn import some
from trainer_script import KILLS, main
from transformers import AutoTokenizer

CAMPUS = {"decisions": 4, "probe": "free"}
KINDS = {
    f"{name}-{order}": {"sft": sft, "static": static, "order": order, "options": options}
    for sft, name in ((True, "SFTTrainer"), (False, "Trainer"))
    for static, order, options in ((True, "competence", {"by": "loss"}), (False, "campus", CAMPUS))
}


@pytest.fixture(scope="module")
def folder(write_signed, tmp_path_factory):
    """A folder with a table, in which runs lie."""
    folder = tmp_path_factory.mktemp("trainers")
    write_signed(folder / "table" / "part.parquet")
    return folder


@pytest.fixture(scope="module")
def run(fork_processes, wait_process, tiny_model, folder):
    """``trainer_script.main`` in so many processes; whether it came to its end. The one of rank ``killed`` is killed
    at an instant, and then the others, as torchrun does."""

    def run(output: str, how: dict, processes: int = 1, kill: str = "", killed: int = 0) -> bool:
        def action(rank: int) -> int:
            options = {"table": folder / "table", "model": tiny_model, **how}
            options["arguments"] = {"gradient_accumulation_steps": 2 // processes, **how.get("arguments", {})}
            return main(rank, kill if rank == killed else "", folder / output, **options)

        logs = [folder / f"{output}.{rank}.log" for rank in range(processes)]
        pids = fork_processes(action, logs)
        first = wait_process(pids[killed], logs[killed])
        others = [rank for rank in range(processes) if rank != killed]
        for rank in others if first.code else ():
            os.kill(pids[rank], signal.SIGKILL)
        rest = [wait_process(pids[rank], logs[rank]) for rank in others]
        if kill:
            assert first.code in (0, -signal.SIGKILL), first.text
        else:
            assert not any(ended.code for ended in (first, *rest)), first.text + "".join(ended.text for ended in rest)
        return first.code == 0

    return run


@pytest.fixture(scope="module")
def whole(run, folder):
    """The directory of a run that nobody interrupted; one for each kind and number of processes."""
    runs: dict[str, Path] = {}

    def whole(name: str, how: dict, processes: int) -> Path:
        key = f"{name}-{processes}"
        if key not in runs:
            run(key, how, processes)
            runs[key] = folder / key
        return runs[key]

    return whole


def consumed(output: Path, processes: int) -> list[list[list[int]]]:
    """The tokens of the documents of each step, in the order of their processes; the last time that a step was made."""
    steps: dict[int, list[list[int]]] = {}
    for rank in range(processes):
        mine: dict[int, list[list[int]]] = {}
        before = -1
        for line in (output / f"consumed.{rank}.jsonl").read_text().splitlines():
            record = json.loads(line)
            if record["step"] != before:
                mine[record["step"]] = []
                before = record["step"]
            mine[before] += record["tokens"]
        for step, documents in mine.items():
            steps.setdefault(step, []).extend(documents)
    return [steps[step] for step in sorted(steps)]


def planned(output: Path, how: dict, table_file: Path, tiny_model: Path) -> tuple[list[list[list[int]]], str]:
    """The tokens of the rows of each step as the order has them, and its digest if it has a journal."""
    table, tokenizer = train.open_table(table_file), AutoTokenizer.from_pretrained(tiny_model)
    rows = integrations.as_dataset(table, tokenizer, max_length=128)["input_ids"]
    if how["static"]:
        order = train.order(table, how["order"], batch_size=4, budget={"samples": 32}, **how["options"])
        visits = order.rows.tolist()
        return [[rows[row] for row in visits[start : start + 4]] for start in range(0, len(visits), 4)], ""
    order = train.order(table, journal=output / "journal.jsonl")
    return [[rows[row] for row in batch] for batch in order.batches], order.digest


def unpadded(documents: list[list[int]], wanted: list[list[int]]) -> list[list[int]]:
    return [line[: len(tokens)] for line, tokens in zip(documents, wanted, strict=True)]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("name", KINDS)
def test_consumed_ids_are_those_of_the_plan(whole, name, processes, folder, tiny_model):
    output = whole(name, KINDS[name], processes)
    plan, digest = planned(output, KINDS[name], folder / "table", tiny_model)
    steps = consumed(output, processes)
    assert len(steps) == len(plan) == 8
    for documents, wanted in zip(steps, plan, strict=True):
        assert unpadded(documents, wanted) == wanted
    weights = [(output / where / "model.safetensors").read_bytes() for where in ("checkpoint-6", "final")]
    assert weights[0] != weights[1]  # what comes after a checkpoint shows
    digests = {(output / f"digest.{rank}").read_text() for rank in range(processes)}
    assert len(digests) == 1 and (not digest or digests == {digest})


def test_the_order_does_not_depend_on_the_number_of_processes(whole):
    for name, how in KINDS.items():
        one, two = (whole(name, how, processes) / "digest.0" for processes in (1, 2))
        if how["static"]:
            assert one.read_text() == two.read_text()


EVERY = [
    (name, kill if processes == 1 else kill.replace(":3:1", ":3:0"), processes)  # each of two makes one pass a step
    for name in KINDS
    for kill in KILLS
    for processes in (1, 2)
]


@pytest.mark.parametrize(("name", "kill", "processes"), some("kills of other trainers", EVERY, 2))
def test_killed_and_resumed_is_the_same_to_the_bit(run, whole, name, kill, processes, folder):
    how, output = KINDS[name], f"{name}-{processes}-{kill}".replace(":", "-")
    ended = run(output, how, processes, kill, killed=len(kill) % processes)  # now the first of two, now the second
    asks = not how["static"]
    assert not ended or kill.startswith("probe")
    run(output, how, processes)
    for file in ("final/model.safetensors", "digest.0", *(["journal.jsonl"] if asks else [])):
        assert (whole(name, how, processes) / file).read_bytes() == (folder / output / file).read_bytes(), file
