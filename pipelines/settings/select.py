"""The options of ``curricle select``: those of a recipe, and where from and where to."""

from dataclasses import dataclass, fields
from typing import Literal

from curricle.curate.selection.recipe import Recipe
from curricle.schemas.common.config import option
from curricle.schemas.common.errors import UsageError


@dataclass(frozen=True)
class SelectSettings(Recipe):
    table: str | None = option(
        "a finished table: what `curricle score` or `curricle select` wrote",
        None,
        positional=True,
        path=True,
    )
    output: str | None = option(
        "directory for the selected rows, a table like the other; of --split, for a directory for each set",
        None,
        path=True,
    )
    check: str | None = option(
        "derive the selection with this certificate, or all sets of a split, again, and compare; nothing is written. "
        "TABLE and --join then say where what was moved is now",
        None,
        path=True,
    )
    overwrite: bool = option("make it again where the output directory holds something else, or what is damaged", False)
    log_format: Literal["text", "json"] = option("how log lines are written", "text")

    def __post_init__(self) -> None:
        if self.check:
            rules = [item for item in fields(Recipe) if item.name != "join"]
            if self.output or any(getattr(self, item.name) != item.default for item in rules):
                found = "--check derives a selection that is there again, and other options are of a new one"
                raise UsageError(found, remedy="leave them out: the certificate has those that it was made with")
            return
        if not self.table:
            raise UsageError("no table is named", remedy="name what `curricle score` wrote before the options")
        if not self.output:
            raise UsageError("--output is required", remedy="name a directory for the selected rows")
        super().__post_init__()

    def recipe(self) -> Recipe:
        return Recipe(**{item.name: getattr(self, item.name) for item in fields(Recipe)})
