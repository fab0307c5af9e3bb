"""The curriculum that docs/extend.md adds: as a file, by its entry point, and in a copy of the packages."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from curricle import train
from pages import block, copy_of_the_packages
from train_tables import write_table

PAGE = "docs/extend.md"
ROWS = 12
LOSSES = np.random.default_rng(0).permutation(ROWS) / 4


OPTIONS = ["--curriculum.epochs", "2", "--budget.samples", str(3 * ROWS)]


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "table.parquet", {"loss": LOSSES})


def check(order):
    first, second, third = np.split(order, 3)
    easy_to_hard = np.argsort(LOSSES)
    assert (first == easy_to_hard).all() and (second == easy_to_hard).all()
    assert (third != easy_to_hard).any() and sorted(third) == list(range(ROWS))


def plan(tmp_path, *options):
    command = [sys.executable, "-m", "curricle.train.cli", "plan", "--data", tmp_path / "table.parquet"]
    done = subprocess.run(
        [*command, "--output", "out", *options, *OPTIONS], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    check(pq.read_table(tmp_path / "out" / "plan.parquet")["row"].to_numpy())


def test_a_curriculum_is_a_file(tmp_path, table, monkeypatch):
    name, code = block(PAGE, "curriculum")
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(code, "utf-8")
    plan(tmp_path, "--curriculum", f"./{name}:Warmed")
    check(train.order(train.open_table(table), f"./{name}:Warmed", epochs=2, budget={"samples": 3 * ROWS}).rows)


def test_an_entry_point_gives_it_a_name(tmp_path, table, monkeypatch):
    _, code = block(PAGE, "curriculum")
    site = tmp_path / "site"
    (site / "their_package").mkdir(parents=True)
    (site / "their_package" / "warmed.py").write_text(code, "utf-8")
    project = tomllib.loads(block(PAGE, "curriculum-entry-point")[1])["project"]
    ((name, value),) = project["entry-points"]["curricle.curricula"].items()
    info = site / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[curricle.curricula]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    plan(tmp_path, "--curriculum", name)


def test_in_the_repository_it_is_a_file_and_a_line(tmp_path, table):
    root = copy_of_the_packages(tmp_path / "curricle")
    name, code = block(PAGE, "curriculum")
    (root / "train" / "curricula" / name).write_text(code, "utf-8")
    _, line = block(PAGE, "curriculum-registration")
    registry = root / "train" / "curricula" / "__init__.py"
    text = registry.read_text("utf-8")
    for before, after in (
        (
            "from curricle.train.curricula.sorted import Sorted\n",
            "from curricle.train.curricula.warmed import Warmed\n",
        ),
        ('    "campus": Campus,\n', line),
    ):
        assert text.count(before) == 1
        text = text.replace(before, before + after)
    registry.write_text(text, "utf-8")
    plan(tmp_path, "--curriculum", "warmed")  # the copy stands before the installed packages: the working directory
