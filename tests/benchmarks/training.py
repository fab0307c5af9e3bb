"""Tokens per second of the training loop beside a bare torch loop on the same batches, and beside TRL's SFTTrainer.

    python tests/benchmarks/training.py --data TABLE --model MODEL [--rows 256] [--rounds 3]

Every contender trains once on the same rows, with AdamW in float32 (or bfloat16 autocast) and as many rows in an
optimizer step. TRL packs rows into sequences of --max-length, so its step takes as many sequences as hold that many
rows on average; the steps made are printed. Rounds alternate the contenders, and medians and ratios are printed. Every
rate is of the same tokens: those of the rows, cut to --max-length, without padding. Start, and for TRL tokenising too,
are not timed; our loop tokenises while it trains. TRL runs in an environment of its own: see peers.txt.
"""

import argparse
import importlib.util
import logging
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from train.batching import micro_batches
from train.curricula.base import generator
from train.distributed import Processes, connect
from train.encoding import Encoded
from train.loop import Loop
from train.metrics import read_metrics
from train.model import load_model, load_tokenizer
from train.order import split
from train.settings import (
    BatchSettings,
    BudgetSettings,
    CheckpointSettings,
    DeviceSettings,
    LogSettings,
    OptimizerSettings,
    RunSettings,
)


@dataclass(frozen=True)
class Measured:
    """Tokens a second, and the optimizer steps that were made."""

    rate: float
    steps: int


def settings(options: argparse.Namespace, output: str, packing: bool) -> RunSettings:
    return RunSettings(
        data=Path(options.data),
        model=options.model,
        output=Path(output),
        curriculum="random",
        max_length=options.max_length,
        budget=BudgetSettings(samples=options.rows),
        batch=BatchSettings(options.batch, options.tokens, packing),
        optimizer=OptimizerSettings(lr=1e-5),
        device=DeviceSettings(precision=options.precision),
        checkpoint=CheckpointSettings(every=0),
        log=LogSettings(every=10**6),
    )


def ours(options: argparse.Namespace, processes: Processes, packing: bool) -> Measured:
    """``curricle-train run``: start, checkpoint and evaluation are left out."""
    with tempfile.TemporaryDirectory() as output:
        Loop(settings(options, output, packing), processes).run()
        last = [line for line in read_metrics(Path(output)) if line["kind"] == "train"][-1]
        return Measured(last["total"]["tokens"] / last["total"]["seconds"], last["step"])


def bare(options: argparse.Namespace, processes: Processes) -> Measured:
    """The least that a loop can do: tokenised, padded batches of the same rows; transformers' own loss; AdamW."""
    batches = encoded_batches(options, processes)
    model = load_model(options.model, "sdpa").to(processes.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    half = options.precision == "bf16"
    tokens, began = 0, time.perf_counter()
    for documents in batches:
        (passes,) = micro_batches(documents, options.tokens, 1, packing=False)
        for micro in passes:
            labels = torch.full_like(micro.ids_BT, -100).flatten()
            labels[micro.places_S + 1] = micro.targets_S
            with torch.autocast(processes.device.type, torch.bfloat16, enabled=half):
                loss = model(
                    input_ids=micro.ids_BT.to(processes.device),
                    labels=labels.view_as(micro.ids_BT).to(processes.device),
                    use_cache=False,
                ).loss
            loss.backward()
            tokens += micro.size.tokens
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    if processes.device.type == "cuda":
        torch.cuda.synchronize()
    return Measured(tokens / (time.perf_counter() - began), len(batches))


def encoded_batches(options: argparse.Namespace, processes: Processes) -> list[list[Encoded]]:
    with tempfile.TemporaryDirectory() as output:
        loop = Loop(settings(options, output, False), processes)
    rows = generator(0, 0).permutation(len(loop.table))[: options.rows]
    return [loop._encode(part) for part in split(rows, options.batch)]


def trl(options: argparse.Namespace, processes: Processes, **different: bool) -> Measured:
    """SFTTrainer on the same rows, with its defaults but for what is ``different``."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from train.table import open_table

    batches = encoded_batches(options, processes)
    lengths = {each.row: len(each) for batch in batches for each in batch}
    tokens = sum(lengths.values())
    rows = np.array([row for row, length in lengths.items() if length])
    conversations = [{"messages": example.messages} for example in open_table(Path(options.data)).examples(rows)]
    size = math.ceil(len(rows) / len(batches))
    if different.get("packing"):
        size = max(1, round(tokens / options.max_length / len(batches)))
    with tempfile.TemporaryDirectory() as output:
        config = SFTConfig(
            output_dir=output,
            per_device_train_batch_size=size,
            num_train_epochs=1,
            max_length=options.max_length,
            bf16=options.precision == "bf16",
            learning_rate=1e-5,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **different,
        )
        trainer = SFTTrainer(
            load_model(options.model, "sdpa"),
            args=config,
            train_dataset=Dataset.from_list(conversations),
            processing_class=load_tokenizer(options.model),
        )
        began = time.perf_counter()
        trainer.train()
        return Measured(tokens / (time.perf_counter() - began), trainer.state.global_step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    processes = connect()
    contenders: dict[str, Callable[[], Measured]] = {
        "bare torch loop": lambda: bare(options, processes),
        "curricle-train": lambda: ours(options, processes, False),
        "curricle-train, packing": lambda: ours(options, processes, True),
    }
    if importlib.util.find_spec("trl"):
        contenders["TRL SFTTrainer"] = lambda: trl(options, processes)
        contenders["TRL SFTTrainer, packing"] = lambda: trl(options, processes, packing=True)
        # its default recomputes activations in the backward pass, which none of the others does
        contenders["TRL, no recomputation"] = lambda: trl(options, processes, gradient_checkpointing=False)
        contenders["TRL, packing, no recomputation"] = lambda: trl(
            options, processes, packing=True, gradient_checkpointing=False
        )
    else:
        print("TRL is not installed, so it is not measured: see tests/benchmarks/peers.txt")
    found: dict[str, list[Measured]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            found[name].append(contender())
    middle = {name: statistics.median(each.rate for each in measured) for name, measured in found.items()}
    print(
        f"{options.model}, {options.rows} rows, {options.precision}, {processes.device}, "
        f"{torch.get_num_threads()} threads, medians of {options.rounds}"
    )
    print(f"{'':30} {'steps':>5} {'tokens/s':>10} {'x bare':>7}   from - to")
    for name, measured in found.items():
        rates = [each.rate for each in measured]
        print(
            f"{name:30} {measured[0].steps:5} {middle[name]:10,.0f} {middle[name] / middle['bare torch loop']:7.2f}"
            f"   {min(rates):,.0f} - {max(rates):,.0f}"
        )


if __name__ == "__main__":
    main()
