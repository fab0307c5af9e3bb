"""The options of `curricle-train reward`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from schemas.config import option
from schemas.errors import UsageError
from train.settings import DeviceSettings

HOLDOUT, L2 = 0.1, 1.0


@dataclass(frozen=True, kw_only=True)
class RewardSettings:
    """Fit a reward model to a table's references over a model's own answers, and score both."""

    data: Path = option("a table with a column of generated answers, or Parquet files with its columns", free=True)
    join: tuple[Path, ...] = option("Parquet files with more columns, joined on example_id", (), free=True)
    generated: str = option("the column of answers that the references are preferred to", "generated")
    model: str = option("the language model whose states are read: a directory, a hub name, or smollm2-135m")
    output: Path = option("directory of the model and the scores; the same command resumes", free=True)
    template: Literal["chat", "alpaca"] = option("how a conversation becomes text", "chat")
    max_length: int = option("tokens after which a conversation is cut", 2048)
    holdout: float = option("share of the pairs that are not learned from, to measure on", HOLDOUT)
    seed: int = option("which pairs those are", 0)
    l2: float = option("strength of the penalty; with 1 a reward gap is expected to be about 1", L2)
    batch_tokens: int = option("tokens in one forward pass of one process", 8192, free=True)
    device: DeviceSettings = field(default=DeviceSettings())
    log_format: Literal["text", "json"] = option("how log lines are written", "text", free=True)

    def __post_init__(self) -> None:
        check = [
            (0 <= self.holdout < 1, "--holdout is not in [0, 1)", "give the share of the pairs to hold out"),
            (self.l2 > 0, "--l2 is not above 0", "without a penalty separable pairs have no best reward"),
            (self.max_length >= 2, "--max-length is below 2", "give at least 2"),
        ]
        for good, found, remedy in check:
            if not good:
                raise UsageError(found, remedy=remedy)
