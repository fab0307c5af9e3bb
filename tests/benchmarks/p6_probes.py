"""P6: what the probes of CAMPUS cost at its default settings: floating-point operations, counted and not timed."""

import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from alpaca import first
from curricle.schemas.columns import ScoreColumn
from curricle.train.records.metrics import read_metrics
from harness import Comparison, Setting
from small_model import write_small_model

ROWS = 1000


def measure(setting: Setting) -> list[Comparison]:
    path, rows = setting.path, setting.rows(ROWS)
    table = first(setting.data, rows).select(["example_id", "messages", "extra"])
    draw = random.Random(0)
    for name in "prompt_words", "response_mtld", "loss":
        score = ScoreColumn(name, pa.float64(), "", "", "high", "test", 1)
        table = table.append_column(score.to_field(), pa.array([draw.random() for _ in range(rows)]))
    pq.write_table(table, path / "table.parquet")
    write_small_model(path / "model", layers=2, hidden=64)
    command = [
        sys.executable,
        "-P",
        "-m",
        "curricle.train.cli",
        "run",
        "--data",
        path / "table.parquet",
        "--model",
        path / "model",
    ]
    options = ["--output", path / "run", "--max-length", "256", "--checkpoint.every", "0", "--log.every", "1000"]
    subprocess.run([*map(str, command), *map(str, options)], check=True, capture_output=True)
    last = [line for line in read_metrics(path / "run") if line["kind"] == "train"][-1]
    probes, training = last["probes"]["flops"], last["total"]["flops"]
    work = f"floating-point operations of CAMPUS's probes, defaults, {rows:,} rows"
    return [Comparison("P6", work, "those of the training", [probes], [training], 0.05, at_most=True, unit="FLOP")]
