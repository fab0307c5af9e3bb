"""Names to models and tokenizers."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from curricle.schemas.chat.gguf import load_gguf
from curricle.schemas.chat.hub import is_hub_name, snapshot
from curricle.schemas.chat.modelfiles import gguf_files, model_files
from curricle.schemas.chat.models import implementations
from curricle.schemas.chat.packaged import PACKAGED, Packaged, cache_directory, unpacked
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.sums import cached_digests
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; UsageError if there is none."""
    with _model_errors(name):
        path, options = _locate(name)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **options)
        return tokenizer


def load_model(name: str, attention: str) -> PreTrainedModel:
    """A model in float32, from a directory, the hub, or a GGUF file (whose weights become plain float32 ones)."""
    with _model_errors(name, attention):
        path, options = _locate(name)
        if options:
            return load_gguf(Path(path) / options["gguf_file"], **implementations(attention))
        loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=torch.float32,
            **implementations(attention),
            trust_remote_code=False,
            use_safetensors=True,  # a pickle can run code
        )
        return loaded


def _locate(name: str) -> tuple[str, dict[str, str]]:
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
        raise ValueError("it is no directory and no hub id")
    try:
        return snapshot(name)
    except UserError as error:  # wrong usage here, where nothing has been written yet
        raise UsageError(f"the model {error.found}", where=error.where, remedy=error.remedy) from error


def identify(name: str) -> dict[str, Any]:
    """What a model, its tokenizer and its template are known by: the SHA-256 of every file that loading them opens.

    Every byte is read, as it is when the model is loaded. One that comes as a package has the digest of that.
    """
    with _model_errors(name):
        path, options = _locate(name)
        directory, local = Path(path), Path(name).exists()
        if (packaged := _packaged(name)) and directory.parent == cache_directory():
            return packaged.identity
        names = gguf_files(Path(name)) if options else model_files(directory)
        digests = cached_digests(directory, names)
        return {"sha256": digests} if local else {"hub": name, "commit": directory.name, "sha256": digests}


@contextlib.contextmanager
def _model_errors(name: str, attention: str = "auto") -> Iterator[None]:
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
