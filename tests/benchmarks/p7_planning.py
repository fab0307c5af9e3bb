"""P7: open ten million rows of scores and sort them in four perspectives; each contender in a process of its own."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from curricle.schemas.columns import ScoreColumn
from curricle.train.data.table import open_table
from harness import Comparison, Setting, alternate, usage_of

ROWS = 10_000_000
GROUP = 1_000_000
PERSPECTIVES = ("prompt_words", "response_mtld", "loss", "ifd_ppl_ratio")
MOST_BYTES = 4e9


def ours(table: Path) -> None:
    opened = open_table(table)
    for name in PERSPECTIVES:
        assert len(opened.order(name, seed=0)) == len(opened)


def polars(table: Path) -> None:
    """The same orders: by value, ties by a seeded hash of the id."""
    frame = pl.read_parquet(table, columns=["example_id", *PERSPECTIVES])
    frame = frame.with_columns(pl.col("example_id").hash(0).alias("tie")).drop("example_id")
    for name in PERSPECTIVES:
        assert len(frame.select(pl.arg_sort_by(name, "tie"))) == len(frame)


def measure(setting: Setting) -> list[Comparison]:
    table, rows = setting.path / "scores.parquet", setting.rows(ROWS)
    _write(table, rows)
    peaks: list[float] = []

    def contender(name: str):
        def seconds(round: int) -> float:
            command = [sys.executable, __file__, name, str(table)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            message = process.stdout.read()
            usage = usage_of(process)
            if name == ours.__name__:
                peaks.append(usage.bytes)
            return float(message)

        return seconds

    took, theirs = alternate(contender(ours.__name__), contender(polars.__name__), rounds=setting.rounds)
    work, peak = f"open {rows:,} rows of scores, plan {len(PERSPECTIVES)} perspectives", max(peaks)
    return [
        Comparison("P7", work, "polars sort of the same columns", took, theirs, 2, at_most=True),
        Comparison(
            "P7", "its peak resident size", "4 GB", [peak / 1e9], [MOST_BYTES / 1e9], 1, at_most=True, unit="GB"
        ),
    ]


def _write(path: Path, rows: int) -> None:
    draw = np.random.default_rng(0)
    scores = [ScoreColumn(name, pa.float64(), "", "", "high", "test", 1) for name in PERSPECTIVES]
    schema = pa.schema([pa.field("example_id", pa.string()), *(score.to_field() for score in scores)])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, GROUP):
            count = min(GROUP, rows - start)
            digits = draw.bytes(16 * count).hex()
            ids = [digits[at : at + 32] for at in range(0, len(digits), 32)]
            words, mtld, loss, ifd = draw.integers(1, 500, count), *draw.lognormal(size=(3, count))
            columns = [pa.array(values, pa.float64()) for values in (words, mtld, loss, ifd)]
            writer.write_table(pa.table([pa.array(ids), *columns], schema=schema))


if __name__ == "__main__":
    _, name, directory = sys.argv
    began = time.perf_counter()
    globals()[name](Path(directory))
    print(time.perf_counter() - began)
