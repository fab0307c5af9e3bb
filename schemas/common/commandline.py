"""The command that settings stand for, however they were given: by flags, by a file, or by keywords of a function."""

import dataclasses
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from curricle.schemas.common.secrets import redacted

OPERATION = {
    *("workers", "engine", "engine_address", "dask_resources", "beam", "stall_limit", "prometheus_file", "log_format"),
    *("overwrite", "tensor_parallel"),
}
"""Options that say where a job runs and how it is watched. They decide nothing, and Beam's may hold credentials."""


def command_line(program: str, settings: Any) -> str:
    """The command with every option that is not its default, but for those of ``OPERATION``, quoted for a shell.

    Of an absolute path of this machine the last step is there, after ``…/``, and of a value of the environment the name
    of the variable: the line is for those who are given the table.
    """
    named, positional = list[str](), list[str]()
    for name, item, value in _options(settings):
        words = [redacted(_portable(text, item)) for text in _texts(value)]
        if item.metadata.get("positional"):
            positional += words
        elif isinstance(value, bool):
            named.append(f"--{name}" if value else f"--no-{name}")
        elif "rest" in item.metadata:
            named += [word for key, text in zip(value, words, strict=True) for word in (f"--{name}.{key}", text)]
        elif isinstance(value, Mapping):
            named += [f"--{name}", ",".join(f"{key}={text}" for key, text in zip(value, words, strict=True))]
        else:
            named += [f"--{name}", ",".join(words)]
    return shlex.join([*program.split(), *positional, *named])


def _options(settings: Any, prefix: str = "") -> "Iterator[tuple[str, dataclasses.Field[Any], Any]]":
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        name = item.metadata.get("rest") or prefix + item.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from _options(value, f"{name}.")
        elif item.name not in OPERATION and value not in (_default(item), None):
            yield name, item, value


def _default(item: "dataclasses.Field[Any]") -> Any:
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [str(each) for each in value.values()]
    return [str(each) for each in value] if isinstance(value, tuple | list) else [str(value)]


def _portable(text: str, item: "dataclasses.Field[Any]") -> str:
    if item.metadata.get("path") and os.path.isabs(text):
        return f"…/{os.path.basename(text.rstrip('/'))}"
    return text
