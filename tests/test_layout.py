"""Where the code lies and under which names it is installed."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("curate", "pipelines", "schemas", "train")
ROOMS = 16


def packages() -> list[Path]:
    result = [path.parent for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")]
    return sorted({path.relative_to(REPOSITORY) for path in result})


def test_every_folder_of_code_is_installed():
    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(".".join(["curricle", *path.parts]) for path in packages())
    assert all((REPOSITORY / path / "__init__.py").exists() for path in packages())


@pytest.mark.parametrize("folder", packages(), ids=str)
def test_no_folder_has_more_rooms_than_one_can_keep_in_mind(folder):
    inside = (REPOSITORY / folder).iterdir()
    rooms = [path for path in inside if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert len([path for path in rooms if path.stem != "__init__"]) <= ROOMS


def test_no_two_helpers_of_tests_have_one_name():
    """They are imported by bare names, in one process: the second would be the first."""
    files = {*(REPOSITORY / "tests").rglob("*.py")} - {*(REPOSITORY / "tests" / "data").rglob("*.py")}
    helpers = Counter(path.stem for path in files if not path.stem.startswith("test_"))
    assert {name for name, count in helpers.items() if count > 1} <= {"__main__", "conftest"}


def test_nothing_of_ours_stands_at_the_top_level_of_an_environment(tmp_path):
    assert re.fullmatch(r"curricle\n*", distribution("curricle").read_text("top_level.txt") or "")
    code = f"import importlib.util; print(*filter(importlib.util.find_spec, {FOLDERS}))"
    assert not subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split()


def test_the_links_of_the_type_check_are_those_of_the_packages():
    result = re.search(r"^TYPED = (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert result and sorted(result[1].split()) == sorted(FOLDERS)


def test_a_wheel_holds_every_file_that_the_code_opens(tmp_path):
    """Templates and marks of types, too: an editable install would not miss them."""
    source = tmp_path / "source"
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    files = {path.relative_to(source) for folder in FOLDERS for path in (source / folder).rglob("*") if path.is_file()}
    assert any(path.suffix != ".py" for path in files)
    files |= {Path(folder, "py.typed") for folder in FOLDERS}
    assert {f"curricle/{path}" for path in files} <= set(zipfile.ZipFile(wheel).namelist())
