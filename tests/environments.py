"""New environments, into which curricle is really installed, for tests of what it needs and of what it brings."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Collection
from importlib.util import cache_from_source
from pathlib import Path

from pages import REPOSITORY, copy_of_the_packages


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that has to succeed, outside the repository, with nothing on its path but what is installed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def make_environment(directory: Path, extra: str, without: Collection[str] = ()) -> Path:
    """The folder of programs of a new environment that holds ``curricle[extra]``, and nothing else.

    ``without``: distributions that the extra names and that are left out, to show what works where they are not.
    """
    source = copy_of_the_packages(directory / "curricle")  # setuptools leaves what it builds beside its source
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    programs = directory / "environment" / "bin"
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    run(sys.executable, "-m", "venv", *["--without-pip"] * bool(uv), programs.parent, cwd=directory)
    python = programs / "python"
    installer = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    links = {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]} if "PIP_FIND_LINKS" in os.environ else {}
    wanted = [f".[{extra}]"]
    if without:
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
        named = [*project["dependencies"], *project["optional-dependencies"][extra]]
        wanted = [each for each in named if not each.startswith(tuple(without))]
        assert len(wanted) == len(named) - len(without)
        run(*installer, "--no-deps", ".", cwd=source, **links)
    run(*installer, "--constraint", REPOSITORY / "constraints.txt", *wanted, cwd=source, **links)
    _share_compiled(programs.parent)
    return programs


def _share_compiled(environment: Path) -> None:
    """What is compiled here of a package is not compiled again there; Python looks whether it is of the same file."""
    here = Path(sysconfig.get_path("purelib"))
    there = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    for source in there.rglob("*.py"):
        compiled = Path(cache_from_source(str(here / source.relative_to(there))))  # wherever bytecode lies here
        copy = source.parent / "__pycache__" / compiled.name
        if compiled.exists() and not copy.exists():  # what is there may be a link to the installer's own
            copy.parent.mkdir(exist_ok=True)
            shutil.copy2(compiled, copy)
