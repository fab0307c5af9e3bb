"""The options of ``curricle transfer``."""

from dataclasses import dataclass

from curricle.schemas.common.config import option
from curricle.schemas.common.errors import UsageError


@dataclass(frozen=True)
class TransferSettings:
    tables: tuple[str, ...] = option(
        "finished tables of the same examples, scored by different models",
        positional=True,
        path=True,
    )
    output: str = option("directory for transfer.json and transfer.html", path=True)
    columns: tuple[str, ...] = option("score columns to compare; left out: all numbers that all tables have", ())

    def __post_init__(self) -> None:
        if len(set(self.tables)) < 2:
            raise UsageError("fewer than two tables are named", remedy="name two or more before the options")
