"""What a report says of a selection: its recipe, what each rule left, and the table that it was taken from."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.schemas.files import Files
from curricle.schemas.manifest import CERTIFICATE, MANIFEST, Manifest, read_manifest
from curricle.schemas.pages.text import number
from curricle.schemas.sums import sha256_of

_OF = {
    "near_duplicates_of": "near_duplicates",
    "by": "take",
    "per": "take",
    "shares": "per",
    "split_by": "split",
    "split_of": "split",
    "split_threshold": "split",
    "split_only": "split",
}
"""Options that say something only with another one."""


@dataclass(frozen=True)
class SelectionStep:
    """A rule, of how many rows it left how many, and whatever else its certificate says of it."""

    rule: str
    rows: int
    left: int
    details: str


@dataclass(frozen=True)
class SelectionSummary:
    """``recipe``: flags and values. ``parts``: the files of the table, where it lies there as it was; else none."""

    table: str
    recipe: Sequence[tuple[str, str]]
    steps: Sequence[SelectionStep]
    parts: Sequence[Path]


def selection_summary(files: Files, manifest: Manifest) -> SelectionSummary | None:
    """None for a table that was not selected, and where its certificate is not there, or cannot be read."""
    if not manifest.selected_from or not files.exists(CERTIFICATE):
        return None
    try:
        certificate = json.loads(files.read(CERTIFICATE))
        table, recipe = str(certificate["table"]["place"]), dict(certificate["recipe"])
        steps = [*map(_step, certificate["steps"])]
    except (ValueError, LookupError, TypeError, RecursionError):  # anybody may have written it; the page says so
        return None
    return SelectionSummary(table, [*_flags(recipe)], steps, _parts(table, manifest.selected_from.manifest_sha256))


def _step(step: Mapping[str, Any]) -> SelectionStep:
    sets = step.get("sets") or {}
    others = {name: value for name, value in step.items() if name not in ("rule", "rows", "left", "sets")}
    details = [f"{name.replace('_', ' ')} {value}" for name, value in others.items() if value not in (None, 0, False)]
    details += [f"{name} {number(int(each['rows']))} rows" for name, each in sets.items()]
    return SelectionStep(str(step["rule"]), int(step["rows"]), int(step["left"]), ", ".join(details))


def _flags(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in recipe.items():
        if value in (None, False, [], "") or (name in _OF and not recipe.get(_OF[name])):
            continue
        if name == "temperature" and recipe.get("take") != "sampled":
            continue
        words = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is True else str(value)
        yield f"--{name.replace('_', '-')}", words


def _parts(table: str, manifest_sha256: str) -> list[Path]:
    """The files of the table on this machine; none where it is elsewhere, or is another one now."""
    signed = Path(table, MANIFEST)
    if not signed.is_file() or sha256_of(signed) != manifest_sha256:
        return []
    parts = [Path(table, part.path) for part in read_manifest(table).data]
    return parts if all(part.is_file() for part in parts) else []
