"""The curriculum that docs/extend.md adds, in a copy of the packages."""

import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
from pages import block, copy_of_the_packages
from train_tables import write_table

PAGE = "docs/extend.md"
ROWS = 12


def test_a_curriculum_is_one_file_and_one_line(tmp_path):
    root = copy_of_the_packages(tmp_path / "curricle")
    name, code = block(PAGE, "curriculum")
    (root / name).write_text(code, "utf-8")
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

    losses = np.random.default_rng(0).permutation(ROWS) / 4
    table = write_table(tmp_path / "table.parquet", {"loss": losses})
    # the copy stands before the installed packages because its parent is the working directory
    command = [sys.executable, "-m", "curricle.train.cli", "plan", "--data", table, "--output", tmp_path / "out"]
    options = ["--curriculum", "warmed", "--curriculum.epochs", "2", "--budget.samples", str(3 * ROWS)]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, second, third = np.split(pq.read_table(tmp_path / "out" / "plan.parquet")["row"].to_numpy(), 3)
    easy_to_hard = np.argsort(losses)
    assert (first == easy_to_hard).all() and (second == easy_to_hard).all()
    assert (third != easy_to_hard).any() and sorted(third) == list(range(ROWS))
