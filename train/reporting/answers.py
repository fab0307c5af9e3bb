"""What the student answered to held-out prompts while it learned, as the report shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curricle.schemas.pages.excerpts import TURN_CHARACTERS, Excerpt, ShownExample

FIRST, LAST = 2, 3
"""Answers to a prompt that are shown at once; those between are folded, where they are more than one."""


@dataclass(frozen=True)
class ShownAnswer:
    """After which step, and what: no text where there is a ``note`` why. ``limit``: tokens at which it was given up."""

    step: int
    text: Excerpt | None
    note: str | None
    limit: int | None

    @classmethod
    def of(cls, step: int, tokens: int, answer: Mapping[str, Any]) -> "ShownAnswer":
        text = None if answer["text"] is None else Excerpt.of(answer["text"], TURN_CHARACTERS)
        return cls(step, text, answer["note"], tokens if answer["truncated"] else None)


@dataclass(frozen=True)
class ShownPrompt:
    """A held-out prompt, what the table answers to it, and the student's answers in order of steps."""

    example: ShownExample
    reference: Excerpt | None
    answers: list[ShownAnswer] = field(default_factory=list)

    @property
    def first(self) -> Sequence[ShownAnswer]:
        return self.answers[: len(self.answers) - len(self.last) - len(self.between)]

    @property
    def between(self) -> Sequence[ShownAnswer]:
        folded = self.answers[FIRST:-LAST]
        return folded if len(folded) > 1 else []

    @property
    def last(self) -> Sequence[ShownAnswer]:
        return self.answers[-LAST:] if self.between else []


def shown_prompts(evaluations: Sequence[Mapping[str, Any]]) -> list[ShownPrompt]:
    """``evaluations``: the lines of the metrics; the first one that has a prompt has its text."""
    prompts: dict[str, ShownPrompt] = {}
    for line in evaluations:
        record = line.get("generations", {})
        for prompt in record.get("prompts", ()):
            reference = prompt["reference"]
            prompts[prompt["example_id"]] = ShownPrompt(
                ShownExample.of(prompt), None if reference is None else Excerpt.of(reference, TURN_CHARACTERS)
            )
        for answer in record.get("answers", ()):
            prompt = prompts.get(answer["example_id"])
            if prompt is not None:  # a user may have removed the lines that had it
                prompt.answers.append(ShownAnswer.of(line["step"], record["tokens"], answer))
    return [*prompts.values()]


def held_out_set(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """The name of the set that the prompts are of; empty where none was answered."""
    return next((line["generations"]["set"] for line in evaluations if "generations" in line), "")
