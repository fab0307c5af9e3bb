"""`make TARGET` in README and docs names a target of the Makefile."""

import re

from pages import REPOSITORY


def test_commands_that_are_named_exist():
    targets = set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]:
        for target in re.findall(r"(?:`|^)make (\w+)", page.read_text("utf-8"), re.MULTILINE):
            assert target in targets, f"{page.name}: {target}"
