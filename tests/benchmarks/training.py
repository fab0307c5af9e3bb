"""Tokens per second of the training loop beside a bare torch loop on the same batches, and beside TRL's SFTTrainer.

    python tests/benchmarks/training.py --data TABLE --model MODEL [--rows 256] [--rounds 3]

Every contender trains the same rows, in the same order where it has one, with AdamW at the same batch size in float32
(or bfloat16 autocast). Rounds alternate; medians and ratios are printed. Tokens are those of the documents: padding is
not counted.
"""

import argparse
import importlib.util
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

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


def ours(options: argparse.Namespace, processes: Processes, packing: bool) -> float:
    """Tokens a second of ``curricle-train run``, tokenising included, start and checkpoint left out."""
    with tempfile.TemporaryDirectory() as output:
        Loop(settings(options, output, packing), processes).run()
        last = [line for line in read_metrics(Path(output)) if line["kind"] == "train"][-1]
        return last["total"]["tokens"] / last["total"]["seconds"]


def bare(options: argparse.Namespace, processes: Processes) -> float:
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
    return tokens / (time.perf_counter() - began)


def encoded_batches(options: argparse.Namespace, processes: Processes) -> list[list[Encoded]]:
    with tempfile.TemporaryDirectory() as output:
        loop = Loop(settings(options, output, False), processes)
    rows = generator(0, 0).permutation(len(loop.table))[: options.rows]
    return [loop._encode(part) for part in split(rows, options.batch)]


def trl(options: argparse.Namespace, processes: Processes, packing: bool) -> float:
    """SFTTrainer on the same rows with its defaults, or with its packing."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from train.table import open_table

    table = open_table(Path(options.data))
    rows = generator(0, 0).permutation(len(table))[: options.rows]
    conversations = [{"messages": example.messages} for example in table.examples(rows)]
    tokens = sum(len(each) for batch in encoded_batches(options, processes) for each in batch)
    with tempfile.TemporaryDirectory() as output:
        config = SFTConfig(
            output_dir=output,
            per_device_train_batch_size=options.batch,
            num_train_epochs=1,
            max_length=options.max_length,
            packing=packing,
            bf16=options.precision == "bf16",
            learning_rate=1e-5,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            load_model(options.model, "sdpa"),
            args=config,
            train_dataset=Dataset.from_list(conversations),
            processing_class=load_tokenizer(options.model),
        )
        began = time.perf_counter()
        trainer.train()
        return tokens / (time.perf_counter() - began)


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
    contenders: dict[str, Callable[[], float]] = {
        "bare torch loop": lambda: bare(options, processes),
        "curricle-train": lambda: ours(options, processes, False),
        "curricle-train, packing": lambda: ours(options, processes, True),
    }
    if importlib.util.find_spec("trl"):
        contenders["TRL SFTTrainer"] = lambda: trl(options, processes, False)
        contenders["TRL SFTTrainer, packing"] = lambda: trl(options, processes, True)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            rates[name].append(contender())
    base = statistics.median(rates["bare torch loop"])
    print(
        f"{options.model}, {options.rows} rows, {options.precision}, {processes.device}, "
        f"{torch.get_num_threads()} threads"
    )
    for name, values in rates.items():
        middle = statistics.median(values)
        print(
            f"{name:26} {middle:10,.0f} tokens/s   {middle / base:.2f} x bare   "
            f"({min(values):,.0f} to {max(values):,.0f})"
        )
    if len(contenders) == 3:
        print("TRL is not installed, so it was not measured: pip install trl")


if __name__ == "__main__":
    main()
