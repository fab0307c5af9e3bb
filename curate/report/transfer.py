"""The page that says how well hardness transfers between models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curricle.curate.report.agreement import Agreement
from curricle.curate.report.chart import overlap_curve
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.pages.page import rendered


@dataclass(frozen=True)
class Comparison:
    """One column in two tables, which are named by their labels."""

    one: str
    other: str
    column: ScoreColumn
    agreement: Agreement

    @property
    def pair(self) -> tuple[str, str]:
        return self.one, self.other


def transfer_page(tables: Sequence[dict[str, Any]], comparisons: Sequence[Comparison]) -> str:
    """One self-contained HTML page, which fetches nothing and runs nothing; every name on it is escaped."""
    pictures = [overlap_curve(each.agreement, f"t{number}") for number, each in enumerate(comparisons)]
    shown = {"tables": tables, "comparisons": list(zip(comparisons, pictures, strict=True))}
    return rendered("curricle.curate.report", "transfer.html.j2", shown)
