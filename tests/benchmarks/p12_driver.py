"""P12: the driver of 100,000 shards of a row each beside that of 1,000: the memory that it takes, and the time a shard.

The job is the real one, ``curricle score`` with its engine, whose worker is in the same process. It is stopped when
half of it is done, asked for by ``curricle status``, and resumed.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from harness import Comparison, Setting, Usage, usage_of
from jobs import CURRICLE

FEW, MANY = 1_000, 100_000
MOST = 1.3
STEPS = ("begun, and stopped at half", "curricle status", "resumed")


def measure(setting: Setting) -> list[Comparison]:
    counts = FEW, max(2 * FEW, setting.rows(MANY))  # fewer shards would be over before they can be stopped
    few, many = (_drive(setting.path / str(rows), rows) for rows in counts)
    memory = [
        Comparison(
            *("P12", f"peak memory of a driver of {counts[1]:,} shards: {step}", f"of {counts[0]:,} shards"),
            *([large.bytes / 1e6], [small.bytes / 1e6], MOST),
            at_most=True,
            unit="MB",
        )
        for step, large, small in zip(STEPS, many, few, strict=True)
    ]
    # the start of a process, which one that has nothing to do takes as well, is in both
    a_shard = [
        sum(each.seconds for each in steps) / rows for steps, rows in zip((many, few), reversed(counts), strict=True)
    ]
    note = f"{1000 * a_shard[0]:.1f} ms, with reading, scoring and writing its row"
    work = f"time of the processor for a shard, of {counts[1]:,}"
    return [*memory, Comparison("P12", work, f"of {counts[0]:,}", a_shard[:1], a_shard[1:], 1, at_most=True, note=note)]


def _drive(path: Path, rows: int) -> list[Usage]:
    """What the three steps took."""
    path.mkdir()
    source, output = path / "rows.jsonl", path / "out"
    with source.open("w") as lines:
        for row in range(rows):
            lines.write(json.dumps({"prompt": f"q {row}", "completion": f"a {row}"}) + "\n")
    score = ["score", str(source), "--output", str(output), "--metrics", "mtld", "--shard-rows", "1"]
    receipts = output / "_progress" / "receipts"
    begun = subprocess.Popen([*CURRICLE, *score], stderr=subprocess.DEVNULL)
    while not receipts.exists() or sum(1 for _ in os.scandir(receipts)) < rows // 2:
        assert begun.poll() is None, f"the job of {rows} rows ended with {begun.returncode} before it was stopped"
        time.sleep(0.1)
    begun.send_signal(signal.SIGTERM)
    usages = [usage_of(begun, 1)]
    for command in (["status", str(output)], score):
        process = subprocess.Popen([*CURRICLE, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        usages.append(usage_of(process))
    return usages
