"""Sizes and digests of files, taken when they were written, so that damage is found before it is believed."""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from curricle.schemas.fingerprint import file_sha256

_THREADS = min(8, os.cpu_count() or 1)


def sums_of(directory: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``{"bytes": …, "sha256": …}`` of each file, by name."""
    return {
        name: {"bytes": (directory / name).stat().st_size, "sha256": sha256}
        for name, sha256 in digests(directory, names).items()
    }


def digests(directory: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each file, by name; several are read at once."""
    names = list(names)
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(names, pool.map(sha256_of, [directory / name for name in names]), strict=True))


def cached_digests(directory: Path, names: Iterable[str]) -> dict[str, str]:
    """Like ``digests``; a process reads them again only if the size or the time of a file has changed since."""
    stats = {name: (directory / name).stat() for name in names}
    return _digests(directory, tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()))


@lru_cache(maxsize=64)
def _digests(directory: Path, stats: tuple[tuple[str, int, int], ...]) -> dict[str, str]:
    return digests(directory, [name for name, _, _ in stats])


def sha256_of(path: Path) -> str:
    """The SHA-256 of one file, in hex."""
    with path.open("rb") as stream:
        return file_sha256(stream)


def damaged(directory: Path, sums: Mapping[str, Mapping[str, Any]], every_byte: bool = True) -> list[str]:
    """What is wrong with these files, in words; only their sizes are looked at unless ``every_byte``."""
    faults, whole = [], []
    for name, sum in sums.items():
        size = (directory / name).stat().st_size if (directory / name).is_file() else None
        if size is None:
            faults.append(f"{name} is absent")
        elif size != sum.get("bytes"):
            faults.append(f"{name} has {size:,} bytes, and had {sum.get('bytes'):,} when it was written")
        else:
            whole.append(name)
    computed = digests(directory, whole) if every_byte else {}
    changed = [name for name in computed if computed[name] != sums[name].get("sha256")]
    return [*faults, *(f"{name} does not hold the bytes that were written (SHA-256)" for name in changed)]
