"""Blocks of code in README and docs, and a copy of the packages to try them in."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "curate", "pipelines", "train")
_FENCE = re.compile(r"^(?:<!-- (?P<note>[^\n]*?) -->\n)?```(?P<language>[^\n]*)\n(?P<body>.*?)^```$", re.M | re.S)


def all_pages() -> list[str]:
    """Every page for users, README first, as paths in the repository."""
    docs = sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").rglob("*.md"))
    return ["README.md", *docs, "docker/README.md", "CONTRIBUTING.md"]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. ``note`` is the HTML comment above it, which no reader of the page sees:

    * ``with: FLAGS`` are added to each command of the block that knows them, so that it is quick, and override its own;
    * ``not run: REASON``: its flags are looked up in ``--help``, and that is all;
    * ``file: NAME``: the block is a file of this name;
    * anything else is the name under which a test of its own takes it.
    """

    page: str
    line: int
    language: str
    note: str
    body: str

    @property
    def about(self) -> str:
        return f"{self.page}:{self.line}"

    def noted(self, what: str) -> str | None:
        """What the comment says of ``what``, or None."""
        return self.note.removeprefix(f"{what}:").strip() if self.note.startswith(f"{what}:") else None


def blocks(page: str) -> Iterator[Block]:
    text = (REPOSITORY / page).read_text("utf-8")
    for result in _FENCE.finditer(text):
        line = text.count("\n", 0, result.start("body"))
        yield Block(page, line, result["language"], result["note"] or "", result["body"])


def block(page: str, marker: str) -> tuple[str, str]:
    """The name after a marker comment of a page, and the code block that follows it."""
    result = [one for one in blocks(page) if one.note == marker or one.noted(marker) is not None]
    assert result, f"{page} has no block marked {marker}"
    return result[0].noted(marker) or "", result[0].body


def copy_of_the_packages(directory: Path) -> Path:
    for name in PACKAGES:
        shutil.copytree(REPOSITORY / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    return directory
