"""How scoring scales with worker processes: seconds of the whole command, side by side.

    python tests/benchmarks/scaling.py INPUT... [--workers 1,2] [--engine local] [--metrics mtld,mattr,hdd] [--rounds 3]

Rounds alternate the numbers of workers, medians and ratios to the first are printed. What does not scale is in the
figures: reading the input once before the start, starting workers, and compaction at the end.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def seconds(arguments: list[str], workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "curricle.pipelines.cli", "score", *arguments]
        began = time.perf_counter()
        done = subprocess.run(
            [*command, "--output", str(Path(folder, "out")), "--workers", str(workers)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--engine", default="local")
    parser.add_argument("--metrics", default="mtld,mattr,hdd")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    counts = [int(count) for count in options.workers.split(",")]
    arguments = [
        *options.inputs,
        "--engine",
        options.engine,
        "--metrics",
        options.metrics,
        "--max-reject-fraction",
        "1",
    ]
    durations: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(options.rounds):
        for count in counts:
            durations[count].append(seconds(arguments, count))
    print(f"{options.engine}, {options.metrics}, medians of {options.rounds}")
    print(f"{'workers':>8} {'seconds':>9} {'x first':>8}   from - to")
    first = statistics.median(durations[counts[0]])
    for count in counts:
        middle = statistics.median(durations[count])
        print(
            f"{count:8} {middle:9.1f} {first / middle:8.2f}   {min(durations[count]):.1f} - {max(durations[count]):.1f}"
        )


if __name__ == "__main__":
    main()
