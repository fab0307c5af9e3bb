"""The options of ``curricle reward``: how the proxy answers, and how a reward is fitted."""

from dataclasses import dataclass, field
from typing import Literal

from curricle.curate.proxy.settings import ProxySettings
from curricle.pipelines.settings.leave_out import check_names
from curricle.pipelines.settings.score import AUTO, FITTED, Workers
from curricle.schemas.common.config import check_ranges, option
from curricle.schemas.common.errors import UsageError


@dataclass(frozen=True)
class HeadSettings:
    seed: int = option("which pairs are in which of the five folds", 0, at_least=0)
    l2: float = option("strength of the penalty; with 1 a reward gap is expected to be about 1", 1.0, above=0)


@dataclass(frozen=True)
class RewardSettings:
    OTHER_NAMES = FITTED

    table: str = option(
        "a finished table: what `curricle score` or `curricle select` wrote", positional=True, path=True
    )
    output: str = option(
        "directory for the same table with the new columns; it is created, and resumed if it is there", path=True
    )
    leave_out: tuple[str, ...] = option(
        "tables, such as other sets of a split, or their certificates: their rows are scored and not learned from",
        (),
        path=True,
    )
    proxy: ProxySettings = field(default_factory=ProxySettings)
    reward: HeadSettings = field(default_factory=HeadSettings)
    workers: Workers = option(f"worker processes that answer the prompts, or auto: {AUTO}", 1, at_least=1, at_most=4096)
    shard_rows: int | None = option(
        "rows in a shard, the unit of work, retry and resume of the answers; by default about a minute's work",
        None,
        at_least=1,
    )
    overwrite: bool = option("make it again where the output directory holds something else, or what is damaged", False)
    log_format: Literal["text", "json"] = option("how log lines are written", "text")

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.proxy.checkpoints:
            raise UsageError("one model answers, not --proxy.checkpoints", remedy="give --proxy.model")
        if self.proxy.end_of_turn == "no":
            raise UsageError(
                "a reward is read at the token that ends a turn", where="--proxy.end-of-turn no", remedy="leave it out"
            )
        check_names(self.leave_out)
        if "://" in self.output:
            raise UsageError("a reward model is trained in a local directory", where=self.output, remedy="name one")
