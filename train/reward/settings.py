"""The options of `curricle-train reward`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from schemas.config import check_ranges, option
from train.settings import MOST_TOKENS, DeviceSettings

L2 = 1.0


@dataclass(frozen=True, kw_only=True)
class RewardSettings:
    """Fit a reward model to a table's references over a model's own answers, and score both."""

    data: Path = option("a table with a column of generated answers, or Parquet files with its columns", free=True)
    join: tuple[Path, ...] = option("Parquet files with more columns, joined on example_id", (), free=True)
    generated: str = option("the column of answers that the references are preferred to", "generated")
    model: str = option(
        "the language model whose states are read: a directory, a hub name, or smollm2-135m", place=True
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
