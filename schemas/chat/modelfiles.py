"""Which files of a model directory its loaders open: what a model is known by.

transformers and vLLM find files by name, and a file may name others: an index its shards, ``config.json`` its weights
(``transformers_weights``) or another configuration, ``tokenizer_config.json`` another ``tokenizer.json``. All that may
be opened counts, whichever of the two loads it. What is named must lie in the directory; a link in it is followed, and
known by the content that it leads to. Standard library only, so that a second run asks for an identity and no more.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from curricle.schemas.common.errors import UsageError

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER = (
    "tokenizer*.json",
    "tokenizer.model*",
    "special_tokens_map.json",
    "added_tokens.json",
    "*vocab*.json",
    "*vocab*.txt",
    "merges.txt",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "*.tokenizer",
    "tekken.json",
    "bpe.codes",
    "dict.txt",
    "byte_maps.json",
    "emoji.json",
    "normalizer.json",
    "word_shape.json",
    "word_pronunciation.json",
    "chat_template*.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
"""Every name that a tokenizer of transformers reads."""
OTHERS = ("*config*.json", "params.json", "modules.json", "*_Pooling/config.json")
"""Configurations: of the model, of its generation, quantization and processors, and of an encoder's pooling."""
PATTERNS = (*WEIGHTS, *TOKENIZER, *OTHERS)

_MERGE = (
    "merge it where you trust both: `PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(…)`"
)


def model_files(directory: Path) -> list[str]:
    """The names, with ``/`` and sorted, of all files that loading this model may open.

    UsageError for a directory whose loading would reach beyond it, or run code: weights or configurations that lie
    elsewhere, an adapter (whose base does), pickled weights, kernels from a hub; and for one without weights.
    """
    if not (directory / CONFIG).is_file():
        raise UsageError("there is no config.json", where=str(directory), remedy="give a Hugging Face model directory")
    _refuse_adapter(directory)
    config = _object(directory / CONFIG)
    # one of the others replaces it, by the version of the library
    configs = {CONFIG, *_named(directory, CONFIG, config.get("configuration_files"))}
    names = {*_matching(directory, PATTERNS), *_tokenizer_named(directory), *configs}
    indexes = {INDEX} if (directory / INDEX).is_file() else set()
    for name in configs:
        config = _object(directory / name)
        _refuse_what_lies_elsewhere(directory / name, config)
        if (chosen := config.get("transformers_weights")) is not None:
            weights = {_weights(directory, name, each) for each in _named(directory, name, [chosen])}
            names |= weights
            indexes |= {each for each in weights if each.endswith(".index.json")}
    for index in indexes:
        # model.safetensors is opened instead of the index, where there is one
        needed = index != INDEX or not (directory / "model.safetensors").is_file()
        names |= {index, *_shards(directory, index, needed)}
    if not any(name.endswith(".safetensors") for name in names):
        pickled = _matching(directory, ("*.bin", "*.pt", "*.pth"))
        raise UsageError(
            f"there are no safetensors, only {min(pickled)}, a pickle, which can run code" if pickled else "no weights",
            where=str(directory),
            remedy="load it where you trust it and save it with `model.save_pretrained(directory)`",
        )
    return sorted(names)


def gguf_files(path: Path) -> list[str]:
    """The same for a GGUF file: itself, and the tokenizer's files beside it, which are read before what it says."""
    _refuse_adapter(path.parent)
    return sorted({path.name, *tokenizer_files(path.parent)} - {CONFIG})


def tokenizer_files(directory: Path) -> list[str]:
    """The names of the files that decide how text becomes tokens, sorted. The configuration chooses the class."""
    names = {*_matching(directory, (*TOKENIZER, CONFIG)), *_tokenizer_named(directory)}
    return sorted(names)


def _refuse_adapter(directory: Path) -> None:
    if (directory / ADAPTER).exists():
        raise UsageError(
            "is an adapter, which one loader puts on top of the model and another leaves out",
            where=str(directory / ADAPTER),
            remedy=f"{_MERGE}; if the weights beside it are merged already, remove {ADAPTER}",
        )


def _matching(directory: Path, patterns: Iterable[str]) -> set[str]:
    paths = {path for pattern in patterns for path in directory.glob(pattern) if path.is_file()}
    return {path.relative_to(directory).as_posix() for path in paths}


def _tokenizer_named(directory: Path) -> Iterator[str]:
    name = "tokenizer_config.json"
    if (directory / name).is_file():
        yield from _named(directory, name, _object(directory / name).get("fast_tokenizer_files"))


def _shards(directory: Path, index: str, needed: bool) -> Iterator[str]:
    shards = _object(directory / index).get("weight_map")
    if not isinstance(shards, dict):
        raise UsageError("has no weight_map", where=str(directory / index), remedy="fetch the model again")
    wanted = set(map(str, shards.values()))
    there = {_weights(directory, index, name) for name in _named(directory, index, sorted(wanted))}
    if needed and there < wanted:
        raise UsageError(
            f"names {min(wanted - there)!r}, which is not there",
            where=str(directory / index),
            remedy="fetch the model again",
        )
    yield from there


def _named(directory: Path, by: str, names: Any) -> Iterator[str]:
    """Those of the files named in a file that are there; UsageError for one that lies elsewhere."""
    for name in names if isinstance(names, list) else []:
        path = PurePosixPath(str(name))
        if path.is_absolute() or ".." in path.parts or "\0" in str(name):
            raise UsageError(
                f"names {name!r}, which is not in this directory",
                where=str(directory / by),
                remedy="copy what it names into the directory, and name it as it is called there",
            )
        if (directory / path).is_file():
            yield path.as_posix()


def _weights(directory: Path, by: str, name: str) -> str:
    if not name.endswith((".safetensors", ".safetensors.index.json")):
        raise UsageError(
            f"names {name!r} as weights, and only safetensors are read",
            where=str(directory / by),
            remedy="load the model where you trust it and save it with `model.save_pretrained(directory)`",
        )
    return name


def _refuse_what_lies_elsewhere(path: Path, config: dict[str, Any]) -> None:
    for key, value in _leaves(config):
        if "_implementation" in key and "/" in str(value):
            raise UsageError(
                f"takes {key} from {value!r}, which is code of elsewhere",
                where=str(path),
                remedy=f"remove {key}: how attention is computed is not for a model to say",
            )
    if "speculators_config" in config:  # vLLM loads the model that it names instead of this one
        raise UsageError(
            "has a speculators_config, which stands for a model that lies elsewhere",
            where=str(path),
            remedy="name that model itself",
        )


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a configuration, with the name that it has; one for each part of a model has that of them all."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, key if "_implementation" in key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot be read: {error}", where=str(path), remedy="fetch the model again") from error
    if not isinstance(value, dict):
        raise UsageError("is not a JSON object", where=str(path), remedy="fetch the model again")
    return value
