"""The options of `curricle-train`: every dataclass here is flags and YAML keys at once (schemas.common.config).

What is marked ``free`` may differ when a run is resumed, because it does not change what is learned. Everything else is
the identity of the run.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from curricle.schemas.common.config import check_ranges, option
from curricle.schemas.common.errors import UsageError
from curricle.train.settings.other_names import OTHER_NAMES

MOST_TOKENS = 2**31 - 1
"""Of a forward pass: a tensor's elements are counted in 32 bits by several kernels, and no device holds more."""

MOST_ANSWER = 2**16
"""Tokens of an answer that is drawn: nobody reads a longer one in a report."""

HELD_OUT, TUNING = "held_out", "tuning"
"""The names of a set of held-out rows that has no other."""

L2 = 1.0
"""Of a reward model: the strength of the penalty."""

_CURRICULUM = (
    "the order: campus, random, sorted, competence, paced, cyclical, blocked, interleaved, mixture, multistage, odm, "
    "doremi, skill_it, …; or one of your own, ./my.py:NAME; --curriculum NAME --help lists the options of one"
)


@dataclass(frozen=True)
class BudgetSettings:
    samples: int | None = option("rows to train on; without any budget, one epoch", None, at_least=1)
    tokens: int | None = option(
        "response tokens to train on, as the table's response_tokens counts them", None, at_least=1
    )
    steps: int | None = option("optimizer steps", None, at_least=1)


@dataclass(frozen=True)
class BatchSize:
    size: int = option("rows in an optimizer step, over all processes", 32, at_least=1)


@dataclass(frozen=True)
class BatchSettings(BatchSize):
    tokens: int = option(
        "tokens in one forward pass of one process; gradients accumulate over the rest",
        8192,
        at_least=2,
        at_most=MOST_TOKENS,
        free=True,
    )
    packing: bool = option(
        "join documents into one sequence, in order, without attention between them", False, free=True
    )


@dataclass(frozen=True)
class OptimizerSettings:
    lr: float = option("peak learning rate of AdamW", 2e-5, above=0)
    beta1: float = option("decay of the mean of the gradient", 0.9, at_least=0, below=1)
    beta2: float = option("decay of the mean of its square", 0.95, at_least=0, below=1)
    eps: float = option("added to the root of the mean square", 1e-8, above=0)
    weight_decay: float = option("decoupled weight decay; matrices only", 0.0, at_least=0)
    clip: float = option("largest norm of the gradient; 0 does not clip", 1.0, at_least=0)
    schedule: Literal["linear", "cosine", "constant", "wsd", "rex"] = option("learning rate after warm-up", "cosine")
    warmup: float = option("share of the budget over which the learning rate rises from 0", 0.03, at_least=0, below=1)
    decay: float = option("share of the budget over which wsd falls at the end", 0.2, above=0, at_most=1)
    floor: float = option("share of the peak at which the schedule ends", 0.0, at_least=0, at_most=1)
    horizon: int | None = option(
        "rows over which the schedule spans, for a run that is the first part of a longer one; left out: the budget",
        None,
        at_least=1,
    )


@dataclass(frozen=True)
class LoraSettings:
    rank: int = option("rank of LoRA adapters (needs peft); 0 trains every weight", 0, at_least=0, at_most=2**16)
    alpha: float = option("scale of the adapters: alpha / rank", 16.0, above=0)
    dropout: float = option("dropout before an adapter", 0.0, at_least=0, below=1)
    targets: tuple[str, ...] = option("names of the linear modules that get one", ("all-linear",))


@dataclass(frozen=True)
class DeviceSettings:
    precision: Literal["fp32", "bf16"] = option("bf16 computes in bfloat16; weights and optimizer stay float32", "fp32")
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2", "flex_attention"] = option(
        "attention kernel of transformers, auto: sdpa where the model has it, else eager; with packing and long rows, "
        "one of the last two",
        "auto",
        free=True,
    )
    activation_checkpointing: bool = option("compute activations again in the backward pass", False, free=True)
    compile: bool = option("torch.compile each layer", False, free=True)
    parallel: Literal["ddp", "fsdp"] = option(
        "how several processes share the work; fsdp shards the weights", "ddp", free=True
    )
    nproc: int = option("processes on this machine; under torchrun, leave it", 1, at_least=1, at_most=1024, free=True)
    peak_tflops: float | None = option(
        "peak of one device, to report MFU where its data sheet is not known here, as on a CPU",
        None,
        above=0,
        free=True,
    )


@dataclass(frozen=True)
class EvalSettings:
    rows: int = option("rows to hold out of the table, chosen by a seeded hash of their ids", 0, at_least=0)
    data: dict[str, Path] = option(
        "another table to evaluate on instead; or several as NAME=PATH,NAME=PATH, each reported, and their mean",
        {},
        unnamed=HELD_OUT,
    )
    tuning: dict[str, Path] = option(
        "a table, or several by name, whose loss is reported apart: to choose options by, not to judge by",
        {},
        unnamed=TUNING,
    )
    tuning_rows: int = option(
        "without a table for tuning: so many rows, held out after those of --eval.rows", 0, at_least=0
    )
    near_duplicates: float | None = option(
        "also leave rows out of training that have this share of their three-word runs in common with a held-out row, "
        "such as 0.8",
        None,
        above=0,
        at_most=1,
    )
    every: int = option("optimizer steps between evaluations; 0 evaluates at the end alone", 0, at_least=0, free=True)
    seed: int = option("which rows are held out", 0, at_least=0)
    generations: int = option(
        "rows of the held-out set that is first by name, from its first, whose prompts the model answers at each "
        "evaluation, for the report; costs a pass of the model for each token of the longest answer",
        0,
        at_least=0,
        free=True,
    )
    generation_tokens: int = option(
        "tokens after which such an answer is given up", 64, at_least=1, at_most=MOST_ANSWER, free=True
    )


@dataclass(frozen=True)
class CheckpointSettings:
    every: int = option("optimizer steps between checkpoints; 0 saves at the end alone", 100, at_least=0, free=True)
    keep: int = option(
        "how many of the last ones stay; what a stop saved between them goes first", 2, at_least=1, free=True
    )


@dataclass(frozen=True)
class LogSettings:
    every: int = option("optimizer steps between lines", 10, at_least=1, free=True)
    tensorboard: bool = option("also write TensorBoard events (needs tensorboard)", False, free=True)
    tracker: str | None = option(
        "also report through one of accelerate's trackers: wandb, trackio, mlflow …", None, free=True
    )
    format: Literal["text", "json"] = option("lines for people, or JSON for schedulers", "text", free=True)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What every training run has in common, whatever its order."""

    OTHER_NAMES = OTHER_NAMES

    data: Path = option("a directory that `curricle score` wrote, or Parquet files with its columns", free=True)
    join: tuple[Path, ...] = option("Parquet files with more score columns, joined on example_id", (), free=True)
    model: str = option(
        "directory, or org/name[@revision] of the hub, of a causal language model, a .gguf file, smollm2-135m "
        "or gemma3-270m",
        path=True,
    )
    output: Path = option("directory of the run; the same command resumes it", free=True)
    template: Literal["chat", "alpaca", "plain"] = option(
        "how a conversation becomes text: the model's chat template, Alpaca, or plain, without markup", "chat"
    )
    max_length: int = option("tokens after which a row is cut", 1024, at_least=2, at_most=MOST_TOKENS)
    leave_out: tuple[Path, ...] = option(
        "tables, such as other sets of a split, or their certificates, whose rows are not trained on", (), free=True
    )
    subset: int = option("train on so many rows of the table, drawn with the seed of the run; 0: all", 0, at_least=0)
    budget: BudgetSettings = field(default=BudgetSettings())
    batch: BatchSettings = field(default=BatchSettings())
    optimizer: OptimizerSettings = field(default=OptimizerSettings())
    lora: LoraSettings = field(default=LoraSettings())
    device: DeviceSettings = field(default=DeviceSettings())
    eval: EvalSettings = field(default=EvalSettings())
    checkpoint: CheckpointSettings = field(default=CheckpointSettings())
    log: LogSettings = field(default=LogSettings())

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.max_length > self.batch.tokens:
            raise UsageError(
                f"--batch.tokens {self.batch.tokens} is less than --max-length {self.max_length}",
                remedy="one row must fit into a forward pass",
            )
        if self.eval.generations and not (self.eval.rows or self.eval.data):
            raise UsageError(
                f"--eval.generations {self.eval.generations} has no prompt: no row is held out",
                remedy="give --eval.rows or --eval.data, or leave it out",
            )


@dataclass(frozen=True, kw_only=True)
class RunSettings(TrainSettings):
    """Train a model on the table in the order of a curriculum."""

    curriculum: str = option(_CURRICULUM, "campus", path=True)
    curriculum_options: dict[str, str] = option("options of the curriculum", {}, rest="curriculum")
    seed: int = option("of the order and of dropout", 0, at_least=0)
    replay: Path | None = option(
        "train on what this journal records, without probing; it decides curriculum, seed, batch and budget", None
    )


@dataclass(frozen=True, kw_only=True)
class CompareSettings(TrainSettings):
    """Train several orders over several seeds at the same budget, and compare their held-out loss."""

    arms: tuple[str, ...] = option(
        "what is compared: NAME or NAME?key=value&key=value, options of the curriculum, or of the trainer as "
        "optimizer.schedule=constant; random is the baseline, and easy_to_hard, hard_to_easy, constant_lr and "
        "random_stages are controls",
        ("random", "random_stages", "constant_lr", "campus", "easy_to_hard", "hard_to_easy"),
    )
    seeds: int = option("how many seeds every arm is trained with: 0, 1, …", 3, at_least=1)
    learning_rates: tuple[float, ...] = option(
        "tried with every arm, which gets the best one of its own on the tuning set (--eval.tuning); without one, some "
        "of the rows to train on are held out for it",
        (),
        above=0,
    )
    tuning_seeds: int = option("how many of the seeds the learning rates are tried with", 1, at_least=1)
    average: Literal["token", "row"] = option(
        "the loss to judge by: of each held-out set the mean over tokens, or over rows of each row's mean", "token"
    )
    scoring_tokens: int | None = option(
        "tokens that scoring took, where the table's manifest does not say", None, at_least=0
    )
    jobs: int = option("runs at a time on this machine, each in a process of its own", 1, at_least=1, at_most=1024)


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """Write the order of a curriculum that never asks, or the one that a journal records: a Parquet and a picture."""

    OTHER_NAMES = OTHER_NAMES

    data: Path | None = option(
        "a directory that `curricle score` wrote, or Parquet files with its columns; left out with --journal: that of "
        "the run",
        None,
    )
    join: tuple[Path, ...] = option("Parquet files with more score columns, joined on example_id", ())
    output: Path = option("directory to write plan.parquet and plan.png into")
    journal: Path | None = option(
        "journal.jsonl of a run, or its directory: what it did visit, of the rows that its run.json names; curriculum, "
        "seed, batch and budget are those of the journal, and a curriculum that is a file has to be named",
        None,
    )
    curriculum: str = option(_CURRICULUM, "campus", path=True)
    curriculum_options: dict[str, str] = option("options of the curriculum", {}, rest="curriculum")
    seed: int = option("of the order", 0, at_least=0)
    leave_out: tuple[Path, ...] = option("tables, such as other sets of a split, whose rows are not in the order", ())
    subset: int = option("so many rows of the table, drawn with the seed; 0: all", 0, at_least=0)
    budget: BudgetSettings = field(default=BudgetSettings())
    batch: BatchSize = field(default=BatchSize())
    columns: tuple[str, ...] = option("difficulties in the picture; otherwise those that the curriculum sorts by", ())
    eval: EvalSettings = field(default=EvalSettings())

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class RewardSettings:
    """Fit a reward model to a table's references over a model's own answers, and score both."""

    OTHER_NAMES = OTHER_NAMES

    data: Path = option("a table with a column of generated answers, or Parquet files with its columns", free=True)
    join: tuple[Path, ...] = option("Parquet files with more columns, joined on example_id", (), free=True)
    leave_out: tuple[Path, ...] = option(
        "tables, such as other sets of a split, or their certificates: their rows are scored and not learned from",
        (),
        free=True,
    )
    generated: str = option("the column of answers that the references are preferred to", "generated")
    model: str = option(
        "the language model whose states are read: a directory, org/name[@revision] of the hub, "
        "smollm2-135m or gemma3-270m",
        path=True,
    )
    output: Path = option("directory of the model and the scores; the same command resumes", free=True)
    template: Literal["chat", "alpaca", "plain"] = option("how a conversation becomes text", "chat")
    max_length: int = option("tokens after which a conversation is cut", 2048, at_least=2, at_most=MOST_TOKENS)
    seed: int = option("which pairs are in which of the five folds", 0, at_least=0)
    l2: float = option("strength of the penalty; with 1 a reward gap is expected to be about 1", L2, above=0)
    batch_tokens: int = option(
        "tokens in one forward pass of one process", 8192, at_least=1, at_most=MOST_TOKENS, free=True
    )
    device: DeviceSettings = field(default=DeviceSettings())
    log_format: Literal["text", "json"] = option("how log lines are written", "text", free=True)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class RunStatusSettings:
    directory: Path = option("the --output of a run or of a comparison", positional=True)
    json: bool = option("one line of JSON, and an exit code that says how it stands", False)


@dataclass(frozen=True)
class ReportSettings:
    directory: Path = option("the --output of a run", positional=True)


@dataclass(frozen=True)
class VerifySettings:
    directory: Path = option("the --output of a run, of a comparison or of a reward model", positional=True)


@dataclass(frozen=True)
class EvaluateSettings:
    directory: Path = option("the --output of a run, or of a comparison, all of whose runs are meant", positional=True)
    tasks: tuple[str, ...] = option(
        "tasks of lm-evaluation-harness by name, YAML files of your own, or gsm8k@FILE and perplexity@FILE over a file",
        path=True,
    )
    checkpoint: str | None = option("one by name, such as step-00000100, or all; left out: the last", None)
    num_fewshot: int | None = option("examples before a question; left out: as the task has it", None, at_least=0)
    limit: int | None = option("ask only the first so many questions, for a try", None, at_least=1)
    chat_template: bool = option("write prompts as turns of a chat, by the model's template", False)
    batch_size: int = option("questions at once", 8, at_least=1, free=True)
    device: str | None = option("of torch, such as cuda:1; left out: a GPU where there is one", None, free=True)
    precision: Literal["fp32", "bf16"] = option("bf16 computes in bfloat16", "fp32")
    unsafe_code: bool = option("let tasks such as humaneval run the code that the model writes, on this machine", False)
    log_format: Literal["text", "json"] = option("how log lines are written", "text", free=True)

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.tasks:
            raise UsageError("--tasks names no task", remedy="name one, such as hellaswag")


def identity(settings: Any) -> dict[str, Any]:
    """The values that decide what is learned, as JSON: everything that is not ``free``."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            values[item.name] = identity(value)
        elif not item.metadata.get("free"):
            values[item.name] = _as_json(value)
    return values


def with_defaults(values: Mapping[str, Any], settings: type) -> dict[str, Any]:
    """An identity that an earlier version wrote, with the defaults of the options that it did not have."""
    whole = dict(values)
    for item in dataclasses.fields(settings):
        default = item.default_factory() if callable(item.default_factory) else item.default
        if dataclasses.is_dataclass(default) and isinstance(values.get(item.name), Mapping):
            whole[item.name] = with_defaults(values[item.name], type(default))  # type: ignore[arg-type]
        elif item.name not in values and default is not dataclasses.MISSING and not item.metadata.get("free"):
            whole[item.name] = identity(default) if dataclasses.is_dataclass(default) else _as_json(default)
    return whole


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
