"""Kill a job at random instants, run the same command again, and compare the table with that of an uninterrupted run.

    python tests/stress.py INPUT [--kills 20] [--seed N] [--shard-rows 300] [--metrics mtld,mattr] [OPTION ...]

Each kill is of the whole process group, with SIGKILL, and every other job has two worker processes. A fifth of the
kills waits until all shards are finished, and so falls into the writing of parts, manifest or report. The seed of each
is printed: ``--kills 1 --seed N`` does that one again. Other options go to `curricle score` as they are.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from running import curricle, in_process_of_its_own, read_data, read_rejects, signed, start


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run of a command, and the arguments of the command but for the output."""

    arguments: tuple[object, ...]
    table: Path

    @property
    def shards(self) -> int:
        return len(receipts(self.table))


def uninterrupted(table: Path, *arguments: object) -> Whole:
    in_process_of_its_own("score", *arguments, "--output", table)
    return Whole(arguments, table)


def receipts(directory: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in (directory / "_progress" / "receipts").glob("*.json")}


def kill(process) -> bool:
    """Kill the whole process group at once; False if it had already ended, and well."""
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    message, _ = process.communicate()
    assert running or process.returncode == 0, message
    return running


def is_late(seed: int) -> bool:
    """Whether the kill waits until all shards are finished: a fifth do."""
    return random.Random(seed).random() < 0.2


def trial(whole: Whole, directory: Path, seed: int) -> str:
    """One kill and one resume, in a new directory; what was done. AssertionError if anything is lost or doubled."""
    draw = random.Random(seed)
    arguments = ("score", *whole.arguments, "--output", directory, "--workers", 1 + seed % 2)
    # Aim at an instant by what has been done, not by the clock: machines differ.
    draw.random()
    wait_for = whole.shards if is_late(seed) else draw.randrange(whole.shards)
    delay = draw.uniform(0, 0.3)
    process = start(*arguments)
    until = time.monotonic() + 120
    while len(receipts(directory)) < wait_for and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(delay)
    was_running = kill(process)
    before = receipts(directory)
    in_process_of_its_own(*arguments)
    after = receipts(directory)
    assert {name: after[name] for name in before} == before, "a finished shard was scored again"
    assert read_data(directory).equals(read_data(whole.table))
    assert read_rejects(directory) == read_rejects(whole.table)
    assert signed(directory) == signed(whole.table)
    assert_nothing_partial(directory)
    assert "whole" in curricle("verify", directory)
    return f"seed {seed}: killed={was_running} with {len(before)} receipts, {delay:.2f} s after {wait_for}"


def assert_nothing_partial(directory: Path) -> None:
    names = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    allowed = {"manifest.json", "README.md", "report.html"}
    allowed |= {f"_progress/{name}" for name in ("plan.json", "finished.json", "lock", "workers.log")}
    parts = ("data/part-", "rejects/part-", "_progress/receipts/shard-")
    extra = {name for name in names - allowed if not name.startswith(parts)}
    assert not extra, extra


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=20250911)
    parser.add_argument("--shard-rows", default="300")
    parser.add_argument("--metrics", default="mtld,mattr")
    arguments, others = parser.parse_known_args()
    options = ("--shard-rows", arguments.shard_rows, "--metrics", arguments.metrics, *others)
    with tempfile.TemporaryDirectory() as folder:
        whole = uninterrupted(Path(folder, "whole"), Path(arguments.input).absolute(), *options)
        for seed in range(arguments.seed, arguments.seed + arguments.kills):
            print(trial(whole, Path(folder, str(seed)), seed), flush=True)
    print(f"{arguments.kills} kills: every table is whole and equal to that of the uninterrupted run")


if __name__ == "__main__":
    main()
