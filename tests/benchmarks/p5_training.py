"""P5: the training loop beside a bare torch loop on the same batches, and beside TRL's SFTTrainer.

Every contender trains once on the same rows, with AdamW in float32 and as many rows in an optimizer step. TRL packs
rows into sequences, so its step takes as many sequences as hold that many rows on average. Every figure is of the same
tokens: those of the rows, without padding. Start, and for TRL tokenising too, are not timed; our loop tokenises while
it trains.
"""

import logging
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from alpaca import first
from curricle.train.curricula.base import rng
from curricle.train.data.batching import micro_batches
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.data.table import open_table
from curricle.train.distributed import Processes, connect
from curricle.train.model.load import load_model, load_tokenizer
from curricle.train.ordering.batches import split
from curricle.train.records.metrics import read_metrics
from curricle.train.settings import (
    BatchSettings,
    BudgetSettings,
    CheckpointSettings,
    LogSettings,
    OptimizerSettings,
    RunSettings,
)
from curricle.train.training.loop import run
from datasets import Dataset
from harness import Comparison, Contender, alternate
from small_model import write_small_model
from trl import SFTConfig, SFTTrainer

ROWS, BATCH, TOKENS, LENGTH = 64, 16, 8192, 512
RATE = 1e-5


class Work:
    """The same rows and the same model for all."""

    def __init__(self, path: Path, data: Path, processes: Processes) -> None:
        self.path, self.processes = path, processes
        self.table, self.model = path / "table.parquet", str(path / "model")
        pq.write_table(first(data, ROWS), self.table)
        self.parameters = write_small_model(path / "model")
        encoder, opened = ConversationTokenizer(load_tokenizer(self.model), "chat", LENGTH), open_table(self.table)
        parts = split(rng(0, 0).permutation(ROWS), BATCH)
        self.batches = [encoder.encode(part.tolist(), opened.examples(part)) for part in parts]
        self.tokens = sum(len(each) for batch in self.batches for each in batch)

    def settings(self, output: str, packing: bool) -> RunSettings:
        return RunSettings(
            data=self.table,
            model=self.model,
            output=Path(output),
            curriculum="random",
            max_length=LENGTH,
            budget=BudgetSettings(samples=ROWS),
            batch=BatchSettings(BATCH, TOKENS, packing),
            optimizer=OptimizerSettings(lr=RATE),
            checkpoint=CheckpointSettings(every=0),
            log=LogSettings(every=10**6),
        )

    def ours(self, packing: bool) -> Contender:
        """``curricle-train run``: start, checkpoint and evaluation are left out."""

        def seconds(_: int) -> float:
            with tempfile.TemporaryDirectory() as output:
                run(self.settings(output, packing), self.processes)
                last = [line for line in read_metrics(Path(output)) if line["kind"] == "train"][-1]
                assert last["total"]["tokens"] == self.tokens
                return last["total"]["seconds"]

        return seconds

    def bare(self, _: int) -> float:
        """The least that a loop can do: padded batches of tokens; transformers' own loss; AdamW."""
        torch.use_deterministic_algorithms(False)  # ours sets it
        model = load_model(self.model, "sdpa").train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
        began = time.perf_counter()
        for documents in self.batches:
            (passes,) = micro_batches(documents, TOKENS, 1, packing=False)
            for micro in passes:
                labels = torch.full_like(micro.ids_BT, -100).flatten()
                labels[micro.positions_S + 1] = micro.targets_S
                model(input_ids=micro.ids_BT, labels=labels.view_as(micro.ids_BT), use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - began

    def trl(self, packing: bool) -> Contender:
        """SFTTrainer with its defaults, recomputation of activations among them."""
        rows = np.array([each.row for batch in self.batches for each in batch if len(each)])
        conversations = [{"messages": example.messages} for example in open_table(self.table).examples(rows)]
        size = (
            max(1, round(self.tokens / LENGTH / len(self.batches))) if packing else math.ceil(ROWS / len(self.batches))
        )

        def seconds(_: int) -> float:
            torch.use_deterministic_algorithms(False)
            with tempfile.TemporaryDirectory() as output:
                config = SFTConfig(
                    output_dir=output,
                    per_device_train_batch_size=size,
                    num_train_epochs=1,
                    max_length=LENGTH,
                    packing=packing,
                    bf16=False,
                    learning_rate=RATE,
                    report_to=[],
                    save_strategy="no",
                    disable_tqdm=True,
                )
                trainer = SFTTrainer(
                    load_model(self.model, "sdpa"),
                    args=config,
                    train_dataset=Dataset.from_list(conversations),
                    processing_class=load_tokenizer(self.model),
                )
                began = time.perf_counter()
                trainer.train()
                return time.perf_counter() - began

        return seconds


def measure(path: Path, data: Path) -> list[Comparison]:
    logging.disable(logging.INFO)
    work = Work(path, data, connect())
    padded, packed, bare, trl, trl_packed = alternate(
        work.ours(False), work.ours(True), work.bare, work.trl(False), work.trl(True)
    )
    words = f"training on {ROWS} Alpaca rows, Llama of {work.parameters / 1e6:.0f}M parameters, float32"
    return [
        Comparison(
            "P5", words, "TRL SFTTrainer, its defaults", padded, trl, 1.5, note=_rates(work.tokens, padded, trl)
        ),
        Comparison("P5", f"{words}, packed", "TRL, packing", packed, trl_packed, 1.0),
        Comparison("P5", words, "a bare torch loop", padded, bare, 0.95, note=_rates(work.tokens, padded, bare)),
    ]


def _rates(tokens: int, ours: list[float], theirs: list[float]) -> str:
    mine, others = (tokens * len(durations) / sum(durations) for durations in (ours, theirs))
    return f"{mine:,.0f} tokens/s, theirs {others:,.0f}"
