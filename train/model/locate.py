"""Which files a name stands for, and what they are known by; nothing is loaded."""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curricle.schemas.chat.hub import is_hub_name, snapshot
from curricle.schemas.chat.modelfiles import gguf_files, model_files
from curricle.schemas.chat.packaged import PACKAGED, Packaged, cache_directory, unpacked
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.sums import cached_digests

NOWHERE = "it is no directory and no hub id"


def check_name(name: str) -> None:
    """UsageError for what can be no model, without a look at any file of one."""
    with model_errors(name):
        if not Path(name).exists() and not _packaged(name) and not is_hub_name(name):
            raise ValueError(NOWHERE)


def locate(name: str) -> tuple[str, dict[str, str]]:
    """A directory, and what of it transformers is to open where that is not all."""
    path = Path(name)
    if packaged := _packaged(name):
        return str(unpacked(packaged) or _fetched(packaged.hub_id)), {}
    if path.suffix == ".gguf":
        gguf_files(path)  # refuses an adapter beside it
        return str(path.parent), {"gguf_file": path.name}
    directory = path if path.is_dir() else _fetched(name)
    model_files(directory)  # refuses what lies elsewhere
    return str(directory), {}


def _packaged(name: str) -> Packaged | None:
    """The model that comes as a package under this name; what lies here under the name comes first."""
    return None if Path(name).exists() else PACKAGED.get(name.lower())


def _fetched(name: str) -> Path:
    if not is_hub_name(name):
        raise ValueError(NOWHERE)
    try:
        return snapshot(name)
    except UserError as error:  # wrong usage here, where nothing has been written yet
        raise UsageError(f"the model {error.found}", where=error.where, remedy=error.remedy) from error


def parameters(name: str) -> int | None:
    """How many numbers the weights of a model are, by the headers of its files; None for a GGUF file."""
    with model_errors(name):
        path, options = locate(name)
        if options:
            return None
        names = [each for each in model_files(Path(path)) if each.endswith(".safetensors")]
        return sum(_numbers(Path(path) / each) for each in names)


def _numbers(path: Path) -> int:
    """Of a file of safetensors, which begins with 8 bytes for the length of a JSON object that says what is in it."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(each["shape"]) for key, each in header.items() if key != "__metadata__")


def identify(name: str) -> dict[str, Any]:
    """What a model, its tokenizer and its template are known by: the SHA-256 of every file that loading them opens.

    Every byte is read, as it is when the model is loaded. One that comes as a package has the digest of that.
    """
    with model_errors(name):
        path, options = locate(name)
        directory, local = Path(path), Path(name).exists()
        if (packaged := _packaged(name)) and directory.parent == cache_directory():
            return packaged.identity
        names = gguf_files(Path(name)) if options else model_files(directory)
        digests = cached_digests(directory, names)
        return {"sha256": digests} if local else {"hub": name, "commit": directory.name, "sha256": digests}


@contextlib.contextmanager
def model_errors(name: str, attention: str = "auto") -> Iterator[None]:
    """What goes wrong as a model is looked for or loaded, as UsageError."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        if attention != "auto" and "attention" in str(error).lower():
            raise UsageError(
                f"the model cannot be loaded with {attention} attention: {str(error).split('. ')[0]}",
                where=name,
                remedy="leave out --device.attention, which takes what the model has; or --device.attention eager",
            ) from error
        remedy = f"name a directory, org/name of the hub, a .gguf file, or {' or '.join(PACKAGED)}"
        raise UsageError(f"the model cannot be loaded: {error}", where=name, remedy=remedy) from error
