"""Where the proxy's weights are, and what identifies them.

Standard library only until something has to be downloaded or converted: a second run asks for the identity
and nothing else, and should not pay for importing torch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.schemas.chat.hub import is_hub_name, snapshot
from curricle.schemas.chat.modelfiles import model_files
from curricle.schemas.chat.packaged import PACKAGED, damaged, unpacked
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.wording import first_line
from curricle.schemas.fingerprint import digest
from curricle.schemas.sums import digests


@dataclass(frozen=True)
class Weights:
    """A directory with config.json, safetensors and a tokenizer, and the identity of what is in it."""

    directory: Path
    identity: dict[str, Any]

    @property
    def revision(self) -> str:
        """The commit of a hub's model; of others the start of a digest of their files."""
        commit = self.identity.get("commit")
        return str(commit or (self.identity.get("gguf_sha256") or digest(self.identity))[:16])

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
    except (OSError, ValueError, LookupError) as error:
        raise UserError(
            f"the {what} cannot be loaded: {first_line(error)}",
            where=model,
            remedy=f"choose a model that the installed {libraries} knows; a model's own code is never run",
        ) from error


def resolve(model: str, option: str = "--proxy.model") -> Weights:
    """Find a model: a packaged one such as ``smollm2-135m``, a local directory, ``org/name`` or ``org/name@revision``.

    Raises UsageError, which names the ``option`` that it was given with, for a name that is none of these, and
    UserError where weights cannot be had.
    """
    if packaged := PACKAGED.get(model):
        directory = unpacked(packaged)
        return Weights(directory, packaged.identity) if directory else from_hub(packaged.hub_id)
    if os.path.isdir(model):
        return from_directory(Path(model))
    if is_hub_name(model):
        return from_hub(model)
    raise UsageError(
        f"{model!r} is no directory and no hub id",
        where=option,
        remedy=f"give {' or '.join(PACKAGED)}, a directory with config.json and safetensors, or org/name@revision",
    )


def from_directory(directory: Path) -> Weights:
    """A model in a local directory, known by every file that loading it opens; UsageError as for ``model_files``."""
    return Weights(directory.resolve(), {"sha256": digests(directory, model_files(directory))})


def from_hub(name: str) -> Weights:
    """A model of the hub, ``org/name`` or ``org/name@revision``; UserError if it cannot be had."""
    directory = snapshot(name)
    model_files(directory)  # refuses what the name of a commit does not say
    return Weights(directory, {"hub": name.partition("@")[0], "commit": directory.name})
