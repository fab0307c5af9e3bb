"""What a user's script looks like, and what a test has it do: ``main`` is run in a process of its own, or in two.

The tokens of every training pass are noted as the model's embedding gets them, which is nothing of ours: a line of
``consumed.RANK.jsonl`` for each, with the step that it belongs to.
"""

import json
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from curricle import train
from curricle.train import integrations
from curricle.train.integrations import CurriculumSFTTrainer, CurriculumTrainer, OrderAuditCallback, last_checkpoint
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

KILLS = (
    "begin:2",  # before the passes of a step
    "pass:3:1",  # in its second pass
    "optimizer:4",  # when the weights have changed and nothing says so
    "end:5",  # before the checkpoint of the step is begun
    "before_save_optimizer_and_scheduler:4",  # in the middle of a checkpoint: the model is there
    "before_save_rng_state:6",  # and the optimizer
    "after_save_rng_state:6",  # and all but what says that it is whole
    "saved:2",
    "pass:0:0",  # before there is any
    "probe:3",  # while a curriculum asks, or in a pass where none does
)
"""Instants at which a process is killed: what happens, in which step from 0, and which pass of it."""


class Watch(TrainerCallback):
    """Notes what the embedding of the model gets, and kills the process where the test wants it to end."""

    def __init__(self, output: Path, kill: str, rank: int) -> None:
        self.file = (output / f"consumed.{rank}.jsonl").open("a")
        self.kill, self.step, self.passes = kill, 0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step = state.global_step
        kwargs["model"].get_input_embeddings().register_forward_pre_hook(self.look)

    def look(self, module: Any, inputs: Any) -> None:
        if torch.is_grad_enabled():
            self.file.write(json.dumps({"step": self.step, "tokens": inputs[0].tolist()}) + "\n")
            self.file.flush()
            self.at(f"pass:{self.step}:{self.passes}")
            self.passes += 1
        else:
            self.at(f"probe:{self.step}")

    def at(self, event: str) -> None:
        if self.kill == event:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.passes = 0
        self.at(f"begin:{self.step}")

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.at(f"optimizer:{self.step}")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step = state.global_step
        self.at(f"end:{self.step}")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.at(f"saved:{self.step}")

    def watch_saving(self, trainer: Any) -> None:
        """Kills between two files of a checkpoint."""
        for name in ("_save_optimizer_and_scheduler", "_save_rng_state"):
            setattr(trainer, name, self._around(name, getattr(trainer, name)))

    def _around(self, name: str, original: Callable[[str], None]) -> Callable[[str], None]:
        def save(output_dir: str) -> None:
            self.at(f"before{name}:{self.step}")
            original(output_dir)
            self.at(f"after{name}:{self.step}")

        return save


def make_trainer(
    table: Path,
    model: Path,
    output: Path,
    sft: bool,
    order: str,
    static: bool,
    options: dict[str, Any] | None = None,
    arguments: dict[str, Any] | None = None,
    budget: dict[str, int] | None = None,
    callbacks: Iterable[Any] = (),
    **more: Any,
) -> Any:
    """A trainer over a table: ``static``, the one of others with a dataset in order; else ours."""
    opened = table if isinstance(table, train.Table) else train.open_table(table)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    # with dropout, so that a random state that is not that of an uninterrupted run shows in the weights
    student = AutoModelForCausalLM.from_pretrained(model, attention_dropout=0.1)
    common = {
        "output_dir": str(output),
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "save_steps": 2,
        "logging_steps": 100,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        **({"gradient_checkpointing": False, "bf16": False} if sft else {}),
    }
    keeps = (integrations.SFT_ARGUMENTS if sft else integrations.TRAINER_ARGUMENTS) if static else {"max_steps": 8}
    args = (SFTConfig if sft else TrainingArguments)(**{**common, **keeps, **(arguments or {})})
    if not static:
        kind = CurriculumSFTTrainer if sft else CurriculumTrainer
        return kind(
            student,
            args,
            processing_class=tokenizer,
            table=opened,
            curriculum=order,
            curriculum_options=options,
            max_length=128,
            callbacks=[*callbacks],
            **more,
        )
    planned = train.order(opened, order, batch_size=4, budget=budget or {"samples": 32}, **(options or {}))
    dataset = integrations.as_dataset(opened, tokenizer, planned, max_length=128)
    watches = [OrderAuditCallback(dataset), *callbacks]
    how: dict[str, Any] = {"train_dataset": dataset, "processing_class": tokenizer, "callbacks": watches, **more}
    if sft:
        return SFTTrainer(student, args, **how)
    return Trainer(student, args, DataCollatorForSeq2Seq(tokenizer), **how)


def main(rank: int = 0, kill: str = "", output: Path = Path(), **how: Any) -> int:
    """Train, or go on from the last whole checkpoint: the same call as often as it takes."""
    torch.set_num_threads(1)
    output.mkdir(exist_ok=True)
    watch = Watch(output, kill, rank)
    trainer = make_trainer(output=output, callbacks=[watch], **how)
    watch.watch_saving(trainer)
    trainer.train(resume_from_checkpoint=last_checkpoint(output))
    trainer.save_model(str(output / "final"))
    audits = [it for it in trainer.callback_handler.callbacks if isinstance(it, OrderAuditCallback)]
    (output / f"digest.{rank}").write_text(audits[0].digest if audits else trainer.order_digest)
    return 0
