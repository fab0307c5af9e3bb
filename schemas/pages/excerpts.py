"""Rows of a data set as a page shows them: the start of each text, and how much follows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PREVIEW_CHARACTERS = 110
TURN_CHARACTERS = 1_200
TURNS = 8


@dataclass(frozen=True)
class Excerpt:
    """The start of a text, and how many characters follow it."""

    text: str
    left_out: int = 0

    @classmethod
    def of(cls, text: str | None, characters: int) -> "Excerpt":
        text = text or ""
        return cls(text[:characters], max(0, len(text) - characters))

    @classmethod
    def preview(cls, text: str | None) -> "Excerpt":
        """One line of the start of a text, for a list."""
        return cls.of(" ".join((text or "")[: 4 * PREVIEW_CHARACTERS].split()), PREVIEW_CHARACTERS)


@dataclass(frozen=True)
class ShownExample:
    """One row of a table as a page shows it. ``source`` is empty where the table does not say where the row is from."""

    example_id: str
    source: str
    position: int | None
    preview: Excerpt
    turns: Sequence[tuple[str, Excerpt]]
    turns_left_out: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "ShownExample":
        messages = row["messages"] or []
        opening = next((turn["content"] for turn in messages if turn["role"] != "system"), None)
        return cls(
            row["example_id"],
            row.get("source") or "",
            row.get("source_position"),
            Excerpt.preview(opening),
            [(turn["role"] or "?", Excerpt.of(turn["content"], TURN_CHARACTERS)) for turn in messages[:TURNS]],
            max(0, len(messages) - TURNS),
        )
