"""Peak resident size of `curricle score` against the number of rows: it has to be flat.

python tests/benchmarks/memory.py [ROWS ...]
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = (30_000, 300_000)
TEXT = """apple stone river quick seven paper green light under never small house about music early ocean
table window bright carry simple number forest bottle"""
WORDS = TEXT.split()


def write_rows(path: Path, rows: int) -> None:
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            prompt, answer = (" ".join(draw.choices(WORDS, k=draw.randint(3, 30))) for _ in range(2))
            file.write(json.dumps({"instruction": f"{row} {prompt}", "output": answer}) + "\n")


def peak_of(rows: int, place: Path) -> tuple[float, float]:
    """Peak resident size (MiB) and seconds of one job in a process of its own."""
    write_rows(place / f"{rows}.jsonl", rows)
    command = [sys.executable, "-P", "-m", "pipelines.cli", "score", place / f"{rows}.jsonl"]
    began = time.perf_counter()
    process = subprocess.Popen([*map(str, command), "--output", str(place / str(rows)), "--metrics", "length,mtld"])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss / 1024, time.perf_counter() - began


def main() -> None:
    asked = tuple(map(int, sys.argv[1:])) or ROWS
    with tempfile.TemporaryDirectory() as place:
        measured = {rows: peak_of(rows, Path(place)) for rows in asked}
    first = measured[asked[0]][0]
    print(f"{'rows':>10} {'peak MiB':>9} {'ratio':>6} {'rows/s':>8}")
    for rows, (peak, seconds) in measured.items():
        print(f"{rows:>10,} {peak:>9,.0f} {peak / first:>6.2f} {rows / seconds:>8,.0f}")


if __name__ == "__main__":
    main()
