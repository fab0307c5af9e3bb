"""P8: the start-up of both commands, and what a job of a few rows takes of the processor, in all of its processes.

What a job cannot do without, its engine and the libraries of its report, is imported for comparison.
"""

import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from harness import Comparison, Contender, Setting, alternate, timed

HEAVY = ("torch", "apache_beam", "vllm")
STARTS = 5  # a round
ROWS = 20
NEEDED = "import apache_beam, matplotlib.figure, polars, pydantic"


def measure(setting: Setting) -> list[Comparison]:
    result = []
    for name in "curricle", "curricle-train":
        script = str(Path(sys.executable).with_name(name))
        imported = _run("-X", "importtime", script, "--help").stderr
        assert not any(f" {module}\n" in imported for module in HEAVY), f"{name} --help imports too much"
        ours, bare = alternate(_starts(script, "--help"), _starts("-c", "pass"), rounds=setting.rounds)
        note = f"no {', '.join(HEAVY)} imported"
        result.append(
            Comparison("P8", f"{name} --help", "python -c pass", ours, bare, goal=10, at_most=True, note=note)
        )
    return [*result, *(_few_rows(metric, goal, setting) for metric, goal in (("length", 2.0), ("mtld", 1.5)))]


def _few_rows(metric: str, goal: float, setting: Setting) -> Comparison:
    path = setting.path
    source = path / "rows.jsonl"
    rows = [{"instruction": f"Name {row} things.", "output": f"They are {row}, and more."} for row in range(ROWS)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["-P", "-m", "curricle.pipelines.cli", "score", str(source), "--metrics", metric, "--output"]
    ours, needed = alternate(
        lambda round: _processor_seconds(*command, str(path / f"{metric}-{round}")),
        lambda _: _processor_seconds("-c", NEEDED),
        rounds=setting.rounds,
    )
    note = f"{statistics.median(ours):.1f} s of CPU"
    work = f"curricle score --metrics {metric}, {ROWS} rows, CPU"
    return Comparison("P8", work, f"python -c '{NEEDED}'", ours, needed, goal, at_most=True, note=note)


def _processor_seconds(*arguments: str) -> float:
    """User and system time of a command and of all that it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _starts(*arguments: str) -> Contender:
    return timed(lambda _: [_run(*arguments) for _ in range(STARTS)])


def _run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
