"""What the README shows works as it stands there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from curricle.schemas.table import score_columns

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text("utf-8")


def block(marker: str) -> tuple[str, str]:
    """The name after a marker comment, and the code block that follows it."""
    found = re.search(rf"<!-- {marker}:? ?(.*?) ?-->\n```python\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no block marked {marker}"
    return found[1], found[2]


def copy_of_the_packages(place: Path) -> Path:
    for name in ("schemas", "curate", "pipelines", "train"):
        shutil.copytree(REPOSITORY / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def test_a_metric_is_one_file_and_one_line(tmp_path):
    root = copy_of_the_packages(tmp_path / "curricle")
    name, code = block("metric")
    (root / name).write_text(code, "utf-8")
    _, line = block("registration")
    registry = root / "curate" / "metrics" / "__init__.py"
    text = registry.read_text("utf-8")
    text = text.replace("from curricle.curate.metrics import ", "from curricle.curate.metrics import questions, ", 1)
    text = text.replace("        length.METRIC,\n", f"        length.METRIC,\n{line}", 1)
    registry.write_text(text, "utf-8")
    (tmp_path / "in.jsonl").write_text(
        '{"prompt": "Hi?", "completion": "How? Why?"}\n{"prompt": "Hi", "completion": ""}\n'
    )
    command = [
        sys.executable,
        "-m",
        "curricle.pipelines.cli",
        "score",
        tmp_path / "in.jsonl",
        "--output",
        tmp_path / "out",
    ]
    # the copy stands before the installed packages because its parent is the working directory
    done = subprocess.run(
        [*command, "--metrics", "questions,mtld"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "out" / "data")
    assert table["response_questions"].to_pylist() == [2, 0]
    column = score_columns(pq.read_schema(next((tmp_path / "out" / "data").iterdir())))["response_questions"]
    assert (column.metric, column.version, column.hard) == ("questions", 1, "high")


def test_commands_that_are_named_exist():
    targets = set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"`?make (\w+)`?", README):
        assert target in targets, target
