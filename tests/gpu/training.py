"""Training on the device: steps against a bare loop, packed against padded, and a run that was killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import torch
from checks import HERE, REPOSITORY, Context, Line
from curricle.curate.reading import read
from curricle.train.cli import main
from curricle.train.curricula.base import rng
from curricle.train.data.batching import micro_batches
from curricle.train.data.encoding import ConversationTokenizer, Encoded
from curricle.train.data.table import open_table
from curricle.train.model.load import load_model, load_tokenizer
from curricle.train.ordering.batches import split
from curricle.train.records.checkpoints import checkpoints
from curricle.train.records.metrics import read_metrics
from kills import outcome
from safetensors.torch import load_file

RATE = 1e-4
EXACT = 2e-4
"""Nats a token by which the loss of a step in float32 may be off; errors of the steps before it have grown by then."""
HALF = 0.05
"""The same in bfloat16, against float32."""
NOISE = 4.0
"""A resumed run may differ from an uninterrupted one by so many times what two uninterrupted ones differ by."""


class Runs:
    """Runs of `curricle-train run` over the same rows of the sample, all with the same batches."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.rows = context.scale.steps * context.scale.batch
        self.table = context.work / "table.parquet"
        examples = read(REPOSITORY / "tests" / "data" / "sample.jsonl").examples
        rows = [row % len(examples) for row in range(self.rows)]
        pq.write_table(examples.take(rows), self.table)

    def arguments(self, output: str, **options: object) -> list[str]:
        scale = self.context.scale
        given = {
            "data": self.table,
            "model": self.context.model,
            "output": self.context.work / output,
            "curriculum": "random",
            "max-length": min(512, scale.length),
            "budget.samples": self.rows,
            "batch.size": scale.batch,
            "batch.tokens": scale.pass_tokens,
            "optimizer.lr": RATE,
            "log.every": 1,
            "checkpoint.every": 0,
            **options,
        }
        pairs = ((f"--{name}",) if value is True else (f"--{name}", value) for name, value in given.items())
        return ["run", *(str(part) for pair in pairs for part in pair)]

    def losses(self, output: str, **options: object) -> list[float]:
        """The loss of each step of a run in this process, in nats a token."""
        assert main(self.arguments(output, **options)) == 0
        return self.reported(output)

    def reported(self, output: str) -> list[float]:
        lines = read_metrics(self.context.work / output)
        return [line["loss"] for line in lines if line["kind"] == "train"]

    def bare(self) -> list[float]:
        """The same by a loop of nothing but torch and the model's own loss."""
        scale, device = self.context.scale, self.context.device
        encoder = ConversationTokenizer(load_tokenizer(self.context.model), "chat", min(512, scale.length))
        table = open_table(self.table)
        model = load_model(self.context.model, "auto").to(device).train()
        matrices = [each for each in model.parameters() if each.dim() >= 2]
        others = [each for each in model.parameters() if each.dim() < 2]
        groups = [{"params": matrices}, {"params": others}]
        optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
        losses = []
        for part in split(rng(0, 0).permutation(self.rows), scale.batch):
            documents = encoder.encode(part.tolist(), table.examples(part))
            total = sum(len(each.scored) for each in documents)
            nats = torch.zeros((), device=device)
            for document in documents:
                loss = _nats(model, document, device)
                (loss / total).backward()
                nats += loss.detach()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(nats) / total)
        return losses


def training(context: Context) -> Iterator[Line]:
    """The loss of every step against a bare loop, packed against padded, and bfloat16 against float32."""
    runs = Runs(context)
    # a constant rate: the bare loop has no schedule
    constant = {"optimizer.schedule": "constant", "optimizer.warmup": 0}
    padded = runs.losses("padded", **constant)
    yield _apart("float32: a loop of torch alone, a document at a time", padded, runs.bare(), EXACT)
    packed = runs.losses("packed", **constant, **{"batch.packing": True})
    yield _apart("float32: packed and padded", packed, padded, EXACT)
    half = runs.losses("half", **constant, **{"device.precision": "bf16"})
    yield _apart("bfloat16 and float32", half, padded, HALF)
    if context.device == "cuda":  # on a CPU it has no backward pass
        flex = runs.losses("flex", **constant, **{"batch.packing": True, "device.attention": "flex_attention"})
        yield _apart("float32: packed with flex attention, and padded", flex, padded, EXACT)


def resume(context: Context) -> Iterator[Line]:
    """A run that is killed between two steps and started again, beside two that were not."""
    runs = Runs(context)
    half = context.scale.steps // 2
    options = {"checkpoint.every": half}
    whole, again = (_result(runs, name, **options) for name in ("whole", "again"))
    arguments = runs.arguments("killed", **options)
    script = [sys.executable, HERE / "killed.py", half + 1, *arguments]
    killed = subprocess.run([*map(str, script)], cwd=context.work, env={**os.environ, "PYTHONPATH": str(HERE.parent)})
    assert killed.returncode == -signal.SIGKILL, f"the run was not killed, but ended with {killed.returncode}"
    left = checkpoints(context.work / "killed")
    assert len(left) == 1, f"the killed run has the checkpoints {left}"
    resumed = _result(runs, "killed", **options)
    for name in ("step", "order", "journal"):
        same = resumed[name] == whole[name]
        yield Line(f"{name} of the resumed run", "equal" if same else "another", met=same)
    noise, off = (_furthest(context.work / "whole", context.work / other) for other in ("again", "killed"))
    same = resumed["weights"] == whole["weights"] and resumed["optimizer"] == whole["optimizer"]
    yield Line(
        "weights of two uninterrupted runs", noise, "at most apart", note="equal to the bit" if again == whole else ""
    )
    yield Line(
        "weights of the resumed run and an uninterrupted one",
        off,
        "at most apart",
        "equal to the bit" if again == whole else f"≤ {NOISE:g} times that",
        same if again == whole else off <= NOISE * noise,
        "equal to the bit" if same else "",
    )


def _result(runs: Runs, output: str, **options: object) -> dict[str, object]:
    assert main(runs.arguments(output, **options)) == 0
    return outcome(runs.context.work / output)


def _furthest(one: Path, other: Path) -> float:
    """How far the last weights of two runs are apart."""
    first, second = (load_file(checkpoints(run)[-1] / "model.safetensors") for run in (one, other))
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def _nats(model: torch.nn.Module, document: Encoded, device: str) -> torch.Tensor:
    """The summed loss of a document's scored tokens, from the logits of all its tokens."""
    ((micro,),) = micro_batches([document], max(2, len(document)), 1, packing=False)
    logits = model(input_ids=micro.ids_BT.to(device), use_cache=False).logits[0].float()
    nll = torch.nn.functional.cross_entropy(
        logits[micro.positions_S.to(device)], micro.targets_S.to(device), reduction="sum"
    )
    return nll


def _apart(what: str, losses: list[float], expected: list[float], bound: float) -> Line:
    value = max(abs(a - b) for a, b in zip(losses, expected, strict=True))
    figures = {"losses": losses, "expected": expected}
    return Line(f"{what}: {len(losses)} steps", value, "nats/token", f"≤ {bound:g}", value <= bound, figures=figures)
