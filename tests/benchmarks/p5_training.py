"""P5: the training loop beside a bare torch loop on the same batches, TRL's SFTTrainer and LLaMA-Factory.

Every contender trains once a round on the same rows, a few in the warm-up, with AdamW in float32 and as many rows in an
optimizer step. Others pack rows into sequences, so their step takes as many sequences as hold that many rows on
average. Every figure is of the same tokens: those of the rows, without padding. Start is not timed, nor is tokenising
of others; our loop tokenises while it trains.
"""

import json
import logging
import math
import tempfile
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from alpaca import first, records
from curricle.curate.proxy.weights import resolve
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
from curricle.train.training.loop import loaded
from curricle.train.training.preparation import prepare
from datasets import Dataset
from harness import Comparison, Contender, Cost, Finding, Rounds, Setting, Skipped, Watch, alternate, processor_seconds
from programs import NotInstalled, Program, peer_python
from small_model import write_small_model
from trl import SFTConfig, SFTTrainer

ROWS, BATCH, TOKENS, LENGTH = 64, 16, 8192, 512
WARM_UP = 8  # rows
RATE = 1e-5
PRETRAINED = "smollm2-135m"
ROUNDS = 3  # of the pretrained model: a round takes minutes
LLAMA_FACTORY = "LLaMA-Factory 0.9.5"


class Work:
    """The same rows and the same model for all."""

    def __init__(self, path: Path, data: Path, rows: int, model: str, processes: Processes) -> None:
        path.mkdir(parents=True)
        self.path, self.processes, self.model = path, processes, model
        self.rows = rows
        self.records = [*islice(records(data), rows)]
        self.table = path / "table.parquet"
        pq.write_table(first(data, rows), self.table)
        encoder, opened = ConversationTokenizer(load_tokenizer(self.model), "chat", LENGTH), open_table(self.table)
        parts = split(rng(0, 0).permutation(self.rows), BATCH)
        self.batches = [encoder.encode(part.tolist(), opened.examples(part)) for part in parts]
        self.tokens = sum(len(each) for batch in self.batches for each in batch)

    def settings(self, output: str, packing: bool) -> RunSettings:
        return RunSettings(
            data=self.table,
            model=self.model,
            output=Path(output),
            curriculum="random",
            max_length=LENGTH,
            budget=BudgetSettings(samples=self.rows),
            batch=BatchSettings(BATCH, TOKENS, packing),
            optimizer=OptimizerSettings(lr=RATE),
            checkpoint=CheckpointSettings(every=0),
            log=LogSettings(every=10**6),
        )

    def sequences(self, packing: bool) -> int:
        """In a step of the others."""
        if packing:
            return max(1, round(self.tokens / LENGTH / len(self.batches)))
        return math.ceil(self.rows / len(self.batches))

    def ours(self, packing: bool) -> Contender:
        """``curricle-train run``: start, checkpoint and evaluation are left out."""

        def cost(_: int) -> Cost:
            with tempfile.TemporaryDirectory() as output:
                with loaded(prepare(self.settings(output, packing)), self.processes) as loop:
                    save, before, after = loop._save, processor_seconds(), []
                    loop._save = lambda: after.append(processor_seconds()) or save()
                    loop.run()
                last = [line for line in read_metrics(Path(output)) if line["kind"] == "train"][-1]
                assert last["total"]["tokens"] == self.tokens
                return Cost(last["total"]["seconds"], after[0] - before)

        return cost

    def bare(self, _: int) -> Cost:
        """The least that a loop can do: padded batches of tokens; transformers' own loss; AdamW."""
        torch.use_deterministic_algorithms(False)  # ours sets it
        model = load_model(self.model, "sdpa").train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
        with Watch() as watch:
            for documents in self.batches:
                (passes,) = micro_batches(documents, TOKENS, 1, packing=False)
                for micro in passes:
                    labels = torch.full_like(micro.ids_BT, -100).flatten()
                    labels[micro.positions_S + 1] = micro.targets_S
                    model(input_ids=micro.ids_BT, labels=labels.view_as(micro.ids_BT), use_cache=False).loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        return watch.cost

    def trl(self, packing: bool) -> Contender:
        """SFTTrainer with its defaults, recomputation of activations among them."""
        rows = np.array([each.row for batch in self.batches for each in batch if len(each)])
        conversations = [{"messages": example.messages} for example in open_table(self.table).examples(rows)]

        def cost(_: int) -> Cost:
            torch.use_deterministic_algorithms(False)
            with tempfile.TemporaryDirectory() as output:
                config = SFTConfig(
                    output_dir=output,
                    per_device_train_batch_size=self.sequences(packing),
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
                with Watch() as watch:
                    trainer.train()
                return watch.cost

        return cost

    def llama_factory(self, program: Program, packing: bool) -> Contender:
        """Its command `train` with its defaults, recomputation of activations among them."""
        data = self.path / "llama-factory"
        data.mkdir(exist_ok=True)
        fields = ("instruction", "input", "output")
        (data / "rows.json").write_text(json.dumps([{name: each[name] for name in fields} for each in self.records]))
        (data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))

        def cost(_: int) -> Cost:
            with tempfile.TemporaryDirectory() as output:
                arguments = {
                    "stage": "sft",
                    "do_train": True,
                    "finetuning_type": "full",
                    "model_name_or_path": str(resolve(self.model).directory),
                    "template": "smollm2",
                    "dataset_dir": str(data),
                    "dataset": "rows",
                    "output_dir": output,
                    "per_device_train_batch_size": self.sequences(packing),
                    "num_train_epochs": 1,
                    "cutoff_len": LENGTH,
                    "neat_packing": packing,
                    "learning_rate": RATE,
                    "report_to": "none",
                    "save_strategy": "no",
                    "disable_tqdm": True,
                    "overwrite_cache": True,
                }
                values, _ = program.ask([arguments])
                return Cost(*values)

        return cost


def measure(setting: Setting) -> list[Finding]:
    logging.disable(logging.INFO)
    processes = connect()
    parameters = write_small_model(setting.path / "small")
    small = f"Llama of {parameters / 1e6:.0f}M parameters with SmolLM2's vocabulary"
    return [
        *_compare(setting, str(setting.path / "small"), small, processes, setting.rounds, goals=(1.5, 1.0, 0.95)),
        *_compare(setting, PRETRAINED, "SmolLM2-135M", processes, min(ROUNDS, setting.rounds), goals=(1.5, 1.1, 1.0)),
    ]


def warmed(few: Contender, whole: Contender) -> Contender:
    """The work of a round, and before the first that of few rows."""
    return lambda round: (whole if round else few)(round)


def _compare(
    setting: Setting, model: str, name: str, processes: Processes, rounds: int, goals: tuple[float, float, float]
) -> list[Finding]:
    """``goals`` over TRL, TRL's packing and the bare loop."""
    path, rows = setting.path / f"{name[:5]}-rows", setting.rows(ROWS)
    both = _, work = [
        Work(path / name, setting.data, count, model, processes) for name, count in (("few", WARM_UP), ("all", rows))
    ]
    words = f"training on {rows} Alpaca rows, {name}, float32"
    contenders = [[each.ours(False), each.ours(True), each.bare, each.trl(False), each.trl(True)] for each in both]
    skipped: list[Finding] = []
    with ExitStack() as stack:
        try:
            python = peer_python("llamafactory", setting.output)
            program = stack.enter_context(closing(Program(python, "llamafactory_sft.py", directory=path)))
            for each, ways in zip(both, contenders, strict=True):
                ways += [each.llama_factory(program, False), each.llama_factory(program, True)]
        except NotInstalled as error:
            skipped.append(Skipped("P5", words, LLAMA_FACTORY, str(error)))
        padded, packed, bare, trl, trl_packed, *other = alternate(*map(warmed, *contenders), rounds=rounds)

    def compare(ours: Rounds, against: str, theirs: Rounds, goal: float | None, form: str) -> Comparison:
        mine, others = (work.tokens * len(each) / sum(each) for each in (ours, theirs))
        note = f"{mine:,.0f} tokens/s, theirs {others:,.0f}"
        return Comparison("P5", words + form, against, ours, theirs, goal, note=note)

    findings: list[Finding] = [
        compare(padded, "TRL SFTTrainer, its defaults", trl, goals[0], ""),
        compare(packed, "TRL, packing", trl_packed, goals[1], ", packed"),
        compare(padded, "a bare torch loop", bare, goals[2], ""),
        compare(packed, "a bare torch loop, padded", bare, None, ", packed"),
    ]
    if other:
        findings += [
            compare(padded, f"{LLAMA_FACTORY}, its defaults", other[0], None, ""),
            compare(packed, f"{LLAMA_FACTORY}, neat packing", other[1], None, ", packed"),
        ]
    return [*findings, *skipped]
