"""What a selection is asked for. The same recipe on the same table gives the same rows."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from curricle.schemas.common.config import check_ranges, option
from curricle.schemas.common.errors import UsageError

NearDuplicatesOf = Literal["both", "conversation", "response", "prompt", "chains"]
Take = Literal["hard", "easy", "high", "low", "random", "sampled", "representative"]


@dataclass(frozen=True)
class Recipe:
    """The rules, in the order in which they apply."""

    join: tuple[str, ...] = option(
        "files with more columns (Parquet, CSV, JSONL), joined by id or by position", (), path=True
    )
    where: str | None = option("a condition that rows must meet, such as 'ifd_ppl_ratio < 1 and loss < 3'", None)
    distinct: bool = option("keep one of the rows that hold the same conversation", False)
    near_duplicates: float | None = option(
        "drop rows that have this share of their three-word runs in common with a row that is kept, such as 0.8",
        None,
        at_least=0.5,
        at_most=0.99,
    )
    near_duplicates_of: NearDuplicatesOf = option(
        "what has to be alike: the conversation and also its response for itself (both), or one of conversation, "
        "response, prompt; chains: rows that are linked by pairs of conversations, as in certificates of version 1",
        "both",
    )
    take: Take | None = option("an end of --by, at random, sampled by exp(--by), or what stands for all", None)
    by: str | None = option("a score column, an expression such as 'loss * loss_tokens', or a column of vectors", None)
    count: int | None = option("how many rows", None, at_least=1)
    fraction: float | None = option("which share of the rows that are left, 0 to 1", None, above=0, at_most=1)
    part: str | None = option("I/K: the I-th of K equal parts, in the order of --take (1/3, 2/3, 3/3 are thirds)", None)
    per: str | None = option("do so in each category or cluster of this column", None)
    shares: Literal["proportional", "equal"] = option("how --count or --fraction is shared out", "proportional")
    temperature: float = option(
        "of --take sampled: towards 0 it takes the top, the higher the more evenly", 1.0, above=0
    )
    seed: int = option("of --take random and sampled, and of --near-duplicates", 0)

    def __post_init__(self) -> None:
        sizes = [name for name in ("count", "fraction", "part") if getattr(self, name) is not None]
        near = self.near_duplicates is not None
        if not (self.take or self.where or self.distinct or near or sizes):
            raise UsageError("nothing is asked for", remedy="give --where, --distinct, --near-duplicates or --take")
        flags = " and ".join(f"--{name}" for name in sizes)
        if self.take and not sizes:
            raise UsageError(f"--take {self.take} without how many", remedy="add --count, --fraction or --part")
        if self.take and len(sizes) > 1:
            raise UsageError(f"{flags} each say how many to take", remedy="leave one of them")
        if sizes and not self.take:
            raise UsageError(f"{flags} without --take", remedy=f"add --take: {', '.join(get_args(Take))}")
        self._check_together("by", self.take not in (None, "random"), needed=True)
        self._check_together("per", self.take is not None)
        self._check_together("part", self.take != "representative")
        self._check_together("shares", bool(self.per) and self.part is None)
        self._check_together("temperature", self.take == "sampled")
        self._check_together("near_duplicates_of", near)
        self._check_together("seed", near or self.take in ("random", "sampled"))
        check_ranges(self)
        if self.part is not None:
            self.part_numbers()

    def _check_together(self, name: str, used: bool, needed: bool = False) -> None:
        """An option that changes nothing is a misunderstanding, and one that is missing is, too."""
        value = getattr(self, name)
        is_set = value != next(item.default for item in fields(Recipe) if item.name == name)
        if is_set and not used:
            raise UsageError(
                f"--{name.replace('_', '-')} {value} has no use here",
                remedy="leave it out, or see --help for what uses it",
            )
        if needed and used and not is_set:
            raise UsageError(f"--take {self.take} needs --{name}", remedy="name a score column, or an expression")

    def part_numbers(self) -> tuple[int, int]:
        """I and K of ``part``."""
        numbers = (self.part or "").split("/")
        if len(numbers) == 2 and all(number.isascii() and number.isdigit() for number in numbers):
            part, parts = map(int, numbers)
            if 1 <= part <= parts:
                return part, parts
        raise UsageError(f"--part is {self.part!r}", remedy="give I/K with 1 <= I <= K, such as 1/3")
