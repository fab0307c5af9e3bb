"""Where the code lies and under which names it is installed."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("curate", "pipelines", "schemas", "train")
ROOMS = 16


def packages() -> list[Path]:
    found = [path.parent for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")]
    return sorted({path.relative_to(REPOSITORY) for path in found})


def test_every_folder_of_code_is_installed():
    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(".".join(["curricle", *path.parts]) for path in packages())
    assert all((REPOSITORY / path / "__init__.py").exists() for path in packages())


@pytest.mark.parametrize("folder", packages(), ids=str)
def test_no_folder_has_more_rooms_than_one_can_keep_in_mind(folder):
    inside = (REPOSITORY / folder).iterdir()
    rooms = [path for path in inside if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert len([path for path in rooms if path.stem != "__init__"]) <= ROOMS


def test_nothing_of_ours_stands_at_the_top_level_of_an_environment(tmp_path):
    assert re.fullmatch(r"curricle\n*", distribution("curricle").read_text("top_level.txt") or "")
    code = f"import importlib.util; print(*filter(importlib.util.find_spec, {FOLDERS}))"
    assert not subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split()


def test_the_links_of_the_type_check_are_those_of_the_packages():
    made = re.search(r"^TYPED = (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert made and sorted(made[1].split()) == sorted(FOLDERS)
