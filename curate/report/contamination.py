"""The page of `curricle contamination`: which benchmarks are in the rows, and what a row and a benchmark share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from curricle.schemas.pages.excerpts import TURN_CHARACTERS, Excerpt, ShownExample
from curricle.schemas.pages.page import rendered


class _Match(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def overlap(self) -> float: ...


class _Text(Protocol):
    @property
    def source(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class ShownMatch:
    """A row, and the text of a benchmark that it holds."""

    row: ShownExample
    match: _Match
    text: _Text

    @property
    def excerpt(self) -> Excerpt:
        return Excerpt.of(self.text.text, TURN_CHARACTERS)


def contamination_page(figures: Mapping[str, Any], shown: Sequence[ShownMatch]) -> str:
    """One self-contained HTML page; ``figures`` are what stands in ``contamination.json``."""
    return rendered("curricle.curate.report", "contamination.html.j2", {"figures": figures, "shown": shown})
