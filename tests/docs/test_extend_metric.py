"""The metric that docs/extend.md adds, in a copy of the packages."""

import subprocess
import sys

from curricle.schemas.table import score_columns
from pages import block, copy_of_the_packages

PAGE = "docs/extend.md"


def test_a_metric_is_one_file_and_one_line(tmp_path):
    root = copy_of_the_packages(tmp_path / "curricle")
    name, code = block(PAGE, "metric")
    (root / name).write_text(code, "utf-8")
    _, line = block(PAGE, "registration")
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
