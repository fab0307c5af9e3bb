"""Data sets of the Hugging Face hub: ``hf://datasets/ORG/NAME``, a folder or a pattern in it, at ``@REVISION``.

Files come through ``huggingface_hub``, with its cache, endpoint and token: what it has fetched is not fetched again.
"""

from pathlib import Path
from typing import Any, BinaryIO

from curricle.curate.readers.inputs import HIDDEN, Expanded, InputFile, is_hidden
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.manifest import NotRead

SCHEME = "hf://"
_DATASETS = "hf://datasets/"
_REMEDY = (
    "check the name, the network and HF_ENDPOINT, and log in (hf auth login, or HF_TOKEN) if it is private or gated"
)


def is_on_hub(name: str) -> bool:
    return name.startswith(SCHEME)


def expand(pattern: str) -> Expanded:
    """The files of a data set, at the commit that its revision stands for now. UsageError if they cannot be listed."""
    if not pattern.startswith(_DATASETS):
        raise UsageError("is no data set of the hub", where=pattern, remedy="name hf://datasets/ORG/NAME")
    from huggingface_hub import HfApi, HfFileSystem
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        files = HfFileSystem(skip_instance_cache=True)
        resolved: Any = files.resolve_path(pattern)
        commit = HfApi().dataset_info(resolved.repo_id, revision=resolved.revision).sha
        root = f"{_DATASETS}{resolved.repo_id}@{commit}"
        inside = resolved.path_in_repo.rstrip("/")
        path = f"{root}/{inside}" if inside else root
        is_pattern = any(mark in inside for mark in "*?[")
        folder = not is_pattern and files.isdir(path)
        entries: Any = files.find(path, detail=True) if folder else files.glob(path, detail=True)
    except (HTTPError, OSError, ValueError, NotImplementedError) as error:
        raise UsageError(f"cannot be listed: {error}", where=pattern, remedy=_REMEDY) from error
    named = pattern.rstrip("/").removesuffix(inside).rstrip("/")
    inputs, hidden = [], []
    for name, about in sorted(entries.items()):
        below = name.partition(f"@{commit}/")[2]
        if about["type"] != "file":
            continue
        if folder and is_hidden(below.removeprefix(inside).strip("/").split("/")):
            hidden.append(NotRead(f"{named}/{below}", HIDDEN))
        else:
            inputs.append(InputFile(f"{named}/{below}", about["size"], 0.0, f"{root}/{below}"))
    return folder, inputs, hidden


def open_file(path: str) -> BinaryIO:
    """A file of a data set, fetched into the hub's cache if it is not there. UserError if that fails."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    name, _, rest = path.removeprefix(_DATASETS).partition("@")
    commit, _, file = rest.partition("/")
    try:
        return Path(hf_hub_download(name, file, repo_type="dataset", revision=commit)).open("rb")
    except (HTTPError, OSError, ValueError) as error:
        raise UserError(f"cannot be fetched: {error}", where=path, remedy=_REMEDY) from error
