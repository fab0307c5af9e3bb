"""The options of ``curricle contamination``."""

from dataclasses import dataclass
from typing import Literal

from curricle.schemas.common.config import check_ranges, option
from curricle.schemas.common.errors import UsageError


@dataclass(frozen=True)
class ContaminationSettings:
    table: str = option("a finished table", positional=True, path=True)
    output: str = option(
        "directory for the table with the columns `contaminated` and `contamination_overlap`", path=True
    )
    against: tuple[str, ...] = option(
        "files of benchmarks, of any kind that is read: all texts of their records are looked for", path=True
    )
    columns: tuple[str, ...] = option("names for the columns of CSV and TSV whose first line names none", ())
    near_duplicates: float = option(
        "the share of three-word runs that a turn and a text have in common from which they are nearly the same",
        0.8,
        at_least=0.5,
        at_most=1,
    )
    overwrite: bool = option("make it again where the output directory holds something else, or what is damaged", False)
    log_format: Literal["text", "json"] = option("how log lines are written", "text")

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.output:
            raise UsageError("--output is empty", remedy="name a directory for the table")
        if not self.against:
            raise UsageError("--against names no file", remedy="name the files of a benchmark")
