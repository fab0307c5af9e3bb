"""P8: the start-up of both commands."""

import subprocess
import sys
from pathlib import Path

from harness import Comparison, Contender, alternate, timed

HEAVY = ("torch", "apache_beam", "vllm")
STARTS = 5  # a round


def measure(path: Path, data: Path) -> list[Comparison]:
    result = []
    for name in "curricle", "curricle-train":
        script = str(Path(sys.executable).with_name(name))
        imported = _run("-X", "importtime", script, "--help").stderr
        assert not any(f" {module}\n" in imported for module in HEAVY), f"{name} --help imports too much"
        ours, bare = alternate(_starts(script, "--help"), _starts("-c", "pass"))
        note = f"no {', '.join(HEAVY)} imported"
        result.append(
            Comparison("P8", f"{name} --help", "python -c pass", ours, bare, goal=10, at_most=True, note=note)
        )
    return result


def _starts(*arguments: str) -> Contender:
    return timed(lambda _: [_run(*arguments) for _ in range(STARTS)])


def _run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
