"""What a selection is asked for. The same recipe on the same table gives the same rows."""

import re
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any, Literal, get_args

from curricle.schemas.common.config import check_ranges, nearest, option
from curricle.schemas.common.errors import UsageError

NearDuplicatesOf = Literal["both", "conversation", "response", "prompt", "chains"]
SplitOf = Literal["conversation", "response", "prompt"]
Take = Literal["hard", "easy", "high", "low", "random", "sampled", "representative"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LATER = ("complement", "split", "split_by", "split_of", "split_threshold", "split_only")
"""Options that certificates of version 2 do not have."""


@dataclass(frozen=True)
class Recipe:
    """The rules, in the order in which they apply."""

    join: tuple[str, ...] = option(
        "more columns: other tables, or files (Parquet, CSV, JSONL) with example_id, or with source and "
        "source_position",
        (),
        path=True,
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
    complement: bool = option("take the other rows of the table instead: those that the rules do not take", False)
    split: tuple[str, ...] = option(
        "NAME=SHARE,…: part the rows into sets that share no group, each a table in OUTPUT/NAME, such as "
        "train=0.8,tuning=0.1,judging=0.1; the shares sum to 1",
        (),
    )
    split_by: str = option(
        "what never parts: rows with one example_id (example), also rows that are nearly the same (near_duplicates), "
        "or rows with one value of this column",
        "example",
    )
    split_of: SplitOf = option("of --split-by near_duplicates: what is compared", "conversation")
    split_threshold: float = option(
        "of --split-by near_duplicates: the share of three-word runs in common from which two rows are nearly the same",
        0.8,
        at_least=0.5,
        at_most=0.99,
    )
    split_only: str | None = option("one NAME of --split: write it alone, into --output itself", None)
    seed: int = option("of --take random and sampled, of --split, and of MinHash", 0)

    def __post_init__(self) -> None:
        sizes = [name for name in ("count", "fraction", "part") if getattr(self, name) is not None]
        near = self.near_duplicates is not None
        if not (self.take or self.where or self.distinct or near or sizes or self.split or self.join):
            rules = "--where, --distinct, --near-duplicates, --take, --split, or --join for more columns of all rows"
            raise UsageError("no rule says which rows to select", remedy=f"give {rules}")
        flags = " and ".join(f"--{name}" for name in sizes)
        if self.take and not sizes:
            found = f"--take {self.take} needs a number of rows"
            raise UsageError(found, remedy="add --count 1000, --fraction 0.1 (a tenth of them) or --part 1/3 (a third)")
        if self.take and len(sizes) > 1:
            raise UsageError(f"{flags} each say how many rows to take", remedy="give one of them")
        if sizes and not self.take:
            found = f"{flags} says how many rows, and nothing says which"
            raise UsageError(found, remedy="add --take random, or --take hard --by loss; there are: " + _listed(Take))
        self._check_used("by", self.take not in (None, "random"), f"--take {_listed(Take, but='random')}")
        if self.take not in (None, "random") and not self.by:
            what = "vectors, such as --by embedding" if self.take == "representative" else "numbers, such as --by loss"
            raise UsageError(f"--take {self.take} needs a column to go by", remedy=f"add --by and a column of {what}")
        self._check_used("per", self.take is not None, "--take")
        self._check_used("part", self.take != "representative", f"--take {_listed(Take, but='representative')}")
        self._check_used("shares", bool(self.per) and self.part is None, "--per with --count or --fraction")
        self._check_used("temperature", self.take == "sampled", "--take sampled")
        self._check_used("near_duplicates_of", near, "--near-duplicates")
        draws = near or bool(self.split) or self.take in ("random", "sampled")
        self._check_used("seed", draws, "--take random and sampled, --split and --near-duplicates, which draw")
        leaves_out = bool(self.take or self.where or self.distinct or near)
        self._check_used("complement", leaves_out and not self.split, "rules that leave rows out, and not --split")
        for name in ("split_by", "split_only"):
            self._check_used(name, bool(self.split), "--split")
        for name in ("split_of", "split_threshold"):
            by = bool(self.split) and self.split_by == "near_duplicates"
            self._check_used(name, by, "--split with --split-by near_duplicates")
        if self.split and self.take:
            found = f"--split parts all rows, and --take {self.take} would leave most of them out"
            raise UsageError(found, remedy="select with --take first, and then split the table that it wrote")
        check_ranges(self)
        if self.split:
            self.split_shares()
        if self.part is not None:
            self.part_numbers()

    def _check_used(self, name: str, used: bool, by: str) -> None:
        """UsageError for an option that would change nothing: it is a misunderstanding. ``by``: what uses it."""
        if self._is_set(name) and not used:
            flag, value = name.replace("_", "-"), getattr(self, name)
            given = f"--{flag}" if value is True else f"--{flag} {value}"
            raise UsageError(f"{given} would change nothing here: it is for {by}", remedy="leave it out, or add that")

    def part_numbers(self) -> tuple[int, int]:
        """I and K of ``part``."""
        numbers = (self.part or "").split("/")
        if len(numbers) == 2 and all(number.isascii() and number.isdigit() for number in numbers):
            part, parts = map(int, numbers)
            if 1 <= part <= parts:
                return part, parts
        raise UsageError(f"--part is {self.part!r}", remedy="give I/K with 1 <= I <= K, such as 1/3")

    def split_shares(self) -> dict[str, Fraction]:
        """The share of each name of ``split``."""
        shares = dict[str, Fraction]()
        for each in self.split:
            name, _, text = each.partition("=")
            try:
                share = Fraction(text.strip())
            except (ValueError, ZeroDivisionError):
                share = Fraction(0)
            if not _NAME.fullmatch(name) or not 0 < share < 1:
                remedy = (
                    "give NAME=SHARE, with letters, digits, - and _, and a share between 0 and 1, such as 0.1 or 1/3"
                )
                raise UsageError(f"--split has {each!r}", remedy=remedy)
            if name.lower() in map(str.lower, shares):
                raise UsageError(f"--split names {name} twice", remedy="give each set a name of its own")
            shares[name] = share
        if (total := sum(shares.values())) != 1:
            found = f"the shares of --split sum to {float(total):.15g}"
            raise UsageError(found, remedy="let them sum to 1: name a set for the other rows, such as rest=0.2")
        if self.split_only is not None and self.split_only not in shares:
            found = f"--split-only {self.split_only} is none of --split"
            raise UsageError(found, remedy=nearest(self.split_only, shares))
        return shares

    def to_json(self) -> dict[str, Any]:
        """As JSON-like values, as version 2 of certificates has them where nothing is used that it did not have."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if name not in _LATER or self._is_set(name)}

    @property
    def version(self) -> int:
        """Of certificates that state it."""
        return 3 if any(map(self._is_set, _LATER)) else 2

    def _is_set(self, name: str) -> bool:
        return bool(getattr(self, name) != next(item.default for item in fields(Recipe) if item.name == name))


def _listed(choices: Any, but: str = "") -> str:
    return ", ".join(choice for choice in get_args(choices) if choice != but)
