"""The options of `curricle-train export` and `curricle-train verify-order`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from curricle.schemas.common.config import check_ranges, option
from curricle.train.settings import BatchSize, BudgetSettings, EvalSettings
from curricle.train.settings.other_names import OTHER_NAMES

Target = Literal[
    "jsonl", "hf", "sharegpt", "alpaca", "axolotl", "ms-swift", "torchtune", "nemo", "megatron-jsonl", "mds"
]
"""What an order can be exported for, see ``train.ordering.exports.formats``."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Write the rows of a table in an order, as another trainer reads them, with the settings that keep it."""

    OTHER_NAMES: ClassVar[Mapping[str, str]] = {
        **OTHER_NAMES,
        "curriculum": "--order",
        "format": "--to",
        "by": "--order COLUMN",
        "epochs": "--budget.samples: rows, of all epochs; without a budget the order is one epoch",
    }

    table: Path = option("a directory that `curricle score` wrote, or Parquet files with its columns", positional=True)
    order: str = option(
        "a curriculum that never asks (random, sorted, competence, …, or ./my.py:NAME), with options as --order.KEY; a "
        "run, its journal.jsonl, or a plan.parquet; a column, NAME or NAME:high or NAME:low, from easy to hard; or "
        "`table`, the rows as they lie",
        path=True,
    )
    order_options: dict[str, str] = option("options of the curriculum", {}, rest="order")
    to: Target = option(
        "jsonl, hf (Parquet for datasets, transformers, TRL), sharegpt or alpaca (LLaMA-Factory), axolotl, ms-swift, "
        "torchtune, nemo, megatron-jsonl or mds (MosaicML streaming)"
    )
    output: Path = option("the directory to make: rows, settings of the trainer, order.json")
    columns: tuple[str, ...] = option("columns of the table that go along with each row", ())
    unfit: Literal["refuse", "leave-out"] = option(
        "rows that the trainer could not read: nothing is written, or they are left out, and it is said", "refuse"
    )
    curriculum: str = option(
        "of a journal whose curriculum is a file, ./my.py:NAME: its code does not run for a journal alone",
        "",
        path=True,
    )
    join: tuple[Path, ...] = option("Parquet files with more score columns to order by, joined on example_id", ())
    seed: int = option("of the order", 0, at_least=0)
    leave_out: tuple[Path, ...] = option("tables, such as other sets of a split, whose rows are not in the order", ())
    subset: int = option("so many rows of the table, drawn with the seed; 0: all", 0, at_least=0)
    budget: BudgetSettings = field(default=BudgetSettings())
    batch: BatchSize = field(default=BatchSize())
    eval: EvalSettings = field(default=EvalSettings())
    log_format: Literal["text", "json"] = option("how log lines are written", "text")

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class VerifyOrderSettings:
    directory: Path = option("an export", positional=True)
    consumed: Path | None = option(
        "ids that a trainer has consumed, in order: one a line, JSON lines or Parquet with example_id", None
    )
    within: int = option(
        "so many ids may be in any order among themselves: the rows of an optimizer step, which processes share",
        1,
        at_least=1,
    )
    table: Path | None = option("the table, to see that the order is over its rows", None)

    def __post_init__(self) -> None:
        check_ranges(self)
