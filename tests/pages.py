"""Blocks of code in README and docs, and a copy of the packages to try them in."""

import re
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "curate", "pipelines", "train")


def block(page: str, marker: str) -> tuple[str, str]:
    """The name after a marker comment of a page, and the code block that follows it."""
    text = (REPOSITORY / page).read_text("utf-8")
    found = re.search(rf"<!-- {marker}:? ?(.*?) ?-->\n```python\n(.*?)```", text, re.DOTALL)
    assert found, f"{page} has no block marked {marker}"
    return found[1], found[2]


def copy_of_the_packages(directory: Path) -> Path:
    for name in PACKAGES:
        shutil.copytree(REPOSITORY / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    return directory
