"""The options of ``curricle lp``: what is trained, and how its checkpoints are scored."""

from dataclasses import dataclass, field
from typing import Literal

from curricle.curate.proxy.settings import MOST_TOKENS, ProxySettings
from curricle.pipelines.settings.leave_out import check_names
from curricle.pipelines.settings.score import AUTO, FITTED, Workers
from curricle.schemas.common.config import check_ranges, option
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.flags import named_values

PUBLISHED = {
    "optimizer.beta1": "0.9",
    "optimizer.beta2": "0.999",
    "optimizer.eps": "1e-8",
    "optimizer.clip": "1",
    "optimizer.weight_decay": "0",
    "optimizer.schedule": "cosine",
    "optimizer.warmup": "0.03",
    "optimizer.floor": "0",
}
"""What the authors train with (arXiv 2402.10430), beside the options below, whose defaults are theirs.

What they do not name (betas, eps, the norm that gradients are clipped to) is as transformers' trainer, which they use,
has it; the trainer here has other betas. All are named, so that its defaults may change and these do not.
"""
PUBLISHED_EPOCHS = 3
"""Their training, whose first epoch alone ``lp_app`` uses: the cosine spans all three there too."""

OURS = {
    "data": "TABLE",
    "join": "TABLE",
    "model": "--proxy.model",
    "output": "--output",
    "template": "--proxy.template",
    "max_length": "--proxy.max-length",
    "seed": "--seed",
    "budget": "--epochs",
    "batch.size": "--batch-size",
    "optimizer.lr": "--learning-rate",
    "optimizer.horizon": "--schedule-epochs",
    "leave_out": "--leave-out",
}
"""Options of the trainer that other options here decide."""
_FIXED = ("curriculum", "replay", "checkpoint", "eval.rows", "eval.tuning_rows", "eval.near_duplicates", "subset")


@dataclass(frozen=True)
class LearnerSettings(ProxySettings):
    max_length: int = option(
        "tokens of an example that the model reads, in training and when it is scored",
        512,
        at_least=2,
        at_most=MOST_TOKENS,
    )


@dataclass(frozen=True)
class LpSettings:
    OTHER_NAMES = FITTED

    table: str = option(
        "a finished table: what `curricle score` or `curricle select` wrote", positional=True, path=True
    )
    output: str = option(
        "directory for the same table with the new columns; it is created, and resumed if it is there", path=True
    )
    epochs: int = option(
        "passes over the table; each is a checkpoint that every row is scored with", PUBLISHED_EPOCHS, at_least=1
    )
    schedule_epochs: int | None = option(
        f"passes over which the learning rate's schedule spans, as if training went on to their end; left out: "
        f"{PUBLISHED_EPOCHS}, or --epochs where that is more",
        None,
        at_least=1,
    )
    batch_size: int = option("rows in an optimizer step", 32, at_least=1)
    learning_rate: float = option(
        "peak learning rate; it rises for 3% of the schedule, then falls as a cosine", 2e-5, above=0
    )
    seed: int = option("of the order, which is random", 42, at_least=0)
    leave_out: tuple[str, ...] = option(
        "tables, such as other sets of a split, or their certificates: their rows are scored and not trained on",
        (),
        path=True,
    )
    train: dict[str, str] = option("other options of `curricle-train run`", {}, rest="train")
    proxy: LearnerSettings = field(default=LearnerSettings())
    compat: Literal["small2large"] | None = option(
        "compute lp_1 and lp_app as their authors' code does, with 0 where nothing was learned", None
    )
    workers: Workers = option(f"worker processes that score, or auto: {AUTO}", 1, at_least=1, at_most=4096)
    shard_rows: int | None = option(
        "rows in a shard, the unit of work, retry and resume of the scoring; by default about a minute's work",
        None,
        at_least=1,
    )
    overwrite: bool = option("make it again where the output directory holds something else, or what is damaged", False)
    log_format: Literal["text", "json"] = option("how log lines are written", "text")

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.schedule_epochs is not None and self.schedule_epochs < self.epochs:
            raise UsageError(
                f"--schedule-epochs {self.schedule_epochs} ends before --epochs {self.epochs}",
                remedy="give it at least as many: with a learning rate of 0 nothing is learned",
            )
        if self.proxy.checkpoints:
            raise UsageError("--proxy.checkpoints are made here", remedy="give --proxy.model; or use `curricle score`")
        if self.proxy.end_of_turn == "no":
            raise UsageError(
                "training learns the token that ends a turn",
                where="--proxy.end-of-turn no",
                remedy="leave it out",
            )
        for path in (self.table, self.output):
            if "://" in path:
                raise UsageError("training reads and writes local directories", where=path, remedy="copy it here")
        check_names(self.leave_out)
        for key in self.train:
            reserved = next((name for name in (*OURS, *_FIXED) if key == name or key.startswith(f"{name}.")), None)
            if reserved:
                remedy = (
                    f"give {OURS[reserved]}"
                    if reserved in OURS
                    else "leave it out: what lp_1 and lp_app are decides it"
                )
                raise UsageError(f"--train.{key} is not for this command", remedy=remedy)

    @property
    def not_trained_on(self) -> tuple[str, ...]:
        """The tables whose rows the trainer leaves out: those that are named, and those that it evaluates on."""
        texts = {f"--train.{key}": self.train.get(key) for key in ("eval.data", "eval.tuning")}
        named = [named_values(text, flag, unnamed=flag) for flag, text in texts.items() if text]
        return (*self.leave_out, *(path for values in named for path in values.values()))

    @property
    def scheduled_epochs(self) -> int:
        """Epochs over which the learning rate's schedule spans, at least those that are trained."""
        return self.schedule_epochs or max(PUBLISHED_EPOCHS, self.epochs)
