"""The options of ``curricle concat``."""

from dataclasses import dataclass
from typing import Literal

from curricle.schemas.common.config import option
from curricle.schemas.common.errors import UsageError


@dataclass(frozen=True)
class ConcatSettings:
    tables: tuple[str, ...] = option(
        "finished tables of different records, whose score columns are made alike", positional=True, path=True
    )
    output: str = option("directory for the table that has the rows of all of them", path=True)
    columns: tuple[str, ...] = option("score columns to keep; left out: all, which all tables then have to have", ())
    overwrite: bool = option("make it again where the output directory holds something else, or what is damaged", False)
    log_format: Literal["text", "json"] = option("how log lines are written", "text")

    def __post_init__(self) -> None:
        if len(self.tables) < 2:
            raise UsageError("fewer than two tables are named", remedy="name two or more before the options")
