"""Typed configuration: one dataclass is the flags of a command and the keys of its YAML file.

Options are declared here, and plain values become instances; flags are for schemas.common.flags, the YAML file is for
schemas.common.configfile.
"""

import dataclasses
import difflib
import math
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.home import at_home

T = TypeVar("T")

_SCALARS = (str, int, float, date)
NAME = r"[\w.+-]+"
"""What a value is called where an option takes several by name."""
LARGEST = 2**63 - 1
"""The largest whole number that an option may be: numpy, torch and Parquet have 64 bits for one."""


def option(help: str, default: Any = dataclasses.MISSING, **metadata: Any) -> Any:
    """A dataclass field with a help text; without a default it must be given.

    ``positional=True`` makes it an argument without a flag. ``rest="PREFIX"`` on a ``dict[str, str]`` field
    collects ``--PREFIX.KEY VALUE`` for keys that are only known later. A dict without it is a map in YAML, and as a
    flag ``NAME=VALUE,NAME=VALUE``; ``unnamed="NAME"`` lets a value stand alone, under that name. ``at_least``,
    ``above``, ``at_most`` and ``below`` bound a number, or each of several: see ``check_ranges``. ``path=True`` on a
    text, or on several, says that it may be a path: there, as in a ``Path``, ``~`` is the home directory.
    """
    metadata = {"help": help, **metadata}
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def nearest(name: str, names: Iterable[str]) -> str:
    """“did you mean …?” for a misspelt name, and otherwise what there is."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}"


def remedy_for(cls: type, name: str, names: Iterable[str]) -> str:
    """What an unknown flag, or key, was meant to be: by ``OTHER_NAMES`` of the options, by its last part, or nearly.

    ``OTHER_NAMES`` of a dataclass are names that other programs have: each leads to one of its flags, and may say more.
    """
    names, flags = list(names), _flags(cls)
    last = re.split(r"[.]", name.lstrip("-"))[-1].replace("-", "_")
    others = {
        key: text for key, text in getattr(cls, "OTHER_NAMES", {}).items() if re.split("[^\\w.-]", text)[0] in flags
    }
    ours = [flag for flag in flags if flag.rpartition(".")[2].lstrip("-").replace("-", "_") == last]
    if last in others:
        return f"here it is {others[last]}"
    if ours:
        return f"did you mean {' or '.join(ours)}?"
    if not name.startswith("-") and any(each.startswith("-") for each in names):
        return f"every value follows the name of its option: {flags[0]} {name}" if flags else "give one at a time"
    group = name.rpartition(".")[0]
    if group and (beside := {each.rpartition(".")[2]: each for each in names if each.rpartition(".")[0] == group}):
        close = difflib.get_close_matches(last.replace("_", "-"), beside, n=1, cutoff=0.6)
        return nearest(beside[close[0]] if close else "", beside.values())
    if not difflib.get_close_matches(name, names, n=1, cutoff=0.6):
        for close in difflib.get_close_matches(last, others, n=1, cutoff=0.8):
            return f"here it is {others[close]}"
    return nearest(name, names)


def _flags(cls: type, prefix: str = "") -> list[str]:
    """The flags of a dataclass, those of its groups among them."""
    hints, flags = typing.get_type_hints(cls), list[str]()
    for item in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[item.name]):
            flags += _flags(hints[item.name], f"{prefix}{item.name}.")
        elif not {"rest", "positional"} & {*item.metadata}:
            flags.append(f"--{flag_of(prefix + item.name)}")
    return flags


def build(cls: type[T], values: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """An instance of the dataclass from plain values; texts are converted to the field's type.

    A key may have dashes for underscores, and ``{"proxy.model": x}`` is ``{"proxy": {"model": x}}``.
    """
    values = by_field(cls, values.items(), where, prefix)
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise UsageError(f"unknown option {prefix + key!r}", where=where, remedy=remedy_for(cls, key, fields))
    options = {}
    for name, item in fields.items():
        if name in values:
            value = values[name]
            if "unnamed" in item.metadata and isinstance(value, str | os.PathLike):
                value = {item.metadata["unnamed"]: value}
            if "unnamed" in item.metadata and isinstance(value, Mapping):
                _check_names(value, where, f"--{flag_of(prefix + name)}")
            options[name] = _convert(value, hints[name], where, prefix + name)
            _check_range(item, options[name], where, prefix)
            if item.metadata.get("path"):
                options[name] = _at_home(options[name], where)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            shown = name.upper() if item.metadata.get("positional") else f"--{flag_of(prefix + name)}"
            raise UsageError(f"{shown} is required", where=where, remedy=item.metadata.get("help", ""))
    return cls(**options)


def by_field(cls: type, pairs: Iterable[tuple[Any, Any]], where: str, prefix: str = "") -> dict[str, Any]:
    """The values by the names of the fields, those of a group together. UsageError for a value that is there twice.

    ``proxy.max-length: 512`` beside ``proxy: {model: x}`` gives ``{"proxy": {"model": "x", "max_length": 512}}``, and
    ``curriculum.bins: 8``, as the flag has it, an option of the curriculum. Below an option that takes several by name,
    keys are names of the user's, and stay as they are.
    """
    kinds = {name: required(hint) for name, hint in typing.get_type_hints(cls).items()}
    rest = {item.metadata["rest"]: item.name for item in dataclasses.fields(cls) if "rest" in item.metadata}
    values: dict[str, Any] = {}
    groups: dict[str, list[tuple[Any, Any]]] = {}
    for key, value in pairs:
        first, _, below = str(key).partition(".")
        name = first.replace("-", "_")
        if below:
            name = rest.get(name, name)
        holds = dataclasses.is_dataclass(kinds.get(name)) or get_origin(kinds.get(name)) is dict
        if holds and (below or isinstance(value, Mapping)):
            groups.setdefault(name, []).extend([(below, value)] if below else value.items())
            continue
        if below and not holds:
            name = str(key)
        _put_once(values, name, value, where, prefix)
    for name, inside in groups.items():
        if values.get(name) is not None:
            found = f"{prefix}{name!s} is {values[name]!r}, and has options of its own as well"
            raise UsageError(found, where=where, remedy=f"write the options below {name!r}")
        if dataclasses.is_dataclass(kinds[name]):
            values[name] = by_field(kinds[name], inside, where, f"{prefix}{name}.")
        else:
            named: dict[str, Any] = {}
            for key, value in inside:
                ours = str(key).replace("-", "_") if name in rest.values() else str(key)
                _put_once(named, ours, value, where, f"{prefix}{name}.")
            values[name] = named
    return values


def _put_once(values: dict[str, Any], name: str, value: Any, where: str, prefix: str) -> None:
    if name in values:
        raise UsageError(f"the option {prefix + name!r} is there twice", where=where, remedy="write it once")
    values[name] = value


def check_ranges(settings: Any, where: str | None = None, prefix: str = "") -> None:
    """UsageError for a number that is not finite, or not within the bounds that its ``option`` declares.

    What a command is given is checked as it is read; this is for settings that a program made.
    """
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            check_ranges(value, where, f"{prefix}{item.name}.")
        else:
            _check_range(item, value, where, prefix)


def _check_range(item: "dataclasses.Field[Any]", value: Any, where: str | None, prefix: str) -> None:
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else [value]
    bounds = item.metadata
    for number in values:
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        good = (
            math.isfinite(number)
            and (isinstance(number, float) or -LARGEST <= number <= LARGEST)
            and ("at_least" not in bounds or number >= bounds["at_least"])
            and ("above" not in bounds or number > bounds["above"])
            and ("at_most" not in bounds or number <= bounds["at_most"])
            and ("below" not in bounds or number < bounds["below"])
        )
        if not good:
            raise UsageError(
                f"--{flag_of(prefix + item.name)} is {number}",
                where=where,
                remedy=f"give {_range(bounds, isinstance(number, int))}: {bounds.get('help', '')}",
            )


def _range(bounds: Mapping[str, Any], whole: bool) -> str:
    """The bounds of an option in words."""
    words = {"at_least": "from", "above": "above", "at_most": "to", "below": "below"}
    limits = [f"{word} {bounds[key]:,}" for key, word in words.items() if key in bounds]
    if whole and not {"at_most", "below"} & {*bounds}:
        limits.append("to 2^63 - 1")
    return " ".join(["a whole number" if whole else "a finite number", *limits])


def _at_home(value: Any, where: str) -> Any:
    if isinstance(value, tuple):
        return tuple(at_home(each, where) for each in value)
    if isinstance(value, dict):
        return {key: at_home(each, where) for key, each in value.items()}
    return at_home(value, where) if isinstance(value, str) else value


def flag_of(name: str) -> str:
    """The name of an option as its flag has it, without the dashes before it."""
    return name.replace("_", "-")


def pieces(text: str) -> list[str]:
    """The values of a flag that takes several. In a file a list says it, and a comma belongs to the name."""
    return text.split(",")


def _check_names(values: Mapping[str, Any], where: str, flag: str) -> None:
    for name in values:
        if not re.fullmatch(NAME, str(name)):
            raise UsageError(f"{flag}: {name!r} is no name", where=where, remedy="give letters, digits and . + - _")


def required(hint: Any) -> Any:
    """The type inside ``Optional[...]``."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(choice for choice in get_args(hint) if choice is not type(None))
    return hint


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The words that stand for a value of another type: those of the ``Literal`` in ``int | Literal["auto"]``."""
    choices = get_args(hint)[1:] if get_origin(hint) in (Union, types.UnionType) else ()
    return tuple(word for choice in choices if get_origin(choice) is Literal for word in get_args(choice))


def _convert(value: Any, hint: Any, where: str, name: str) -> Any:
    optional = type(None) in get_args(hint)
    words = alternatives(hint)
    if value in words:
        return value
    inner = required(hint)
    if value is None:
        if optional:
            return None
        if dataclasses.is_dataclass(inner) or get_origin(inner) is dict:
            return _convert({}, inner, where, name)
        raise UsageError(f"--{flag_of(name)} has no value", where=where, remedy="give one, or leave the key out")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if dataclasses.is_dataclass(inner) and isinstance(value, inner):  # type: ignore[arg-type]
        check_ranges(value, where, f"{name}.")
        return value
    if dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
        return build(inner, value, where, f"{name}.")  # type: ignore[arg-type, type-var]
    if get_origin(inner) is tuple:
        item_type = get_args(inner)[0]
        items = value
        if isinstance(value, str):  # no number has a comma, a name may
            items = [value] if item_type in (str, Path) else pieces(value)
        if isinstance(items, (list, tuple)):
            return tuple(_convert(item, item_type, where, name) for item in items)
    elif get_origin(inner) is dict and isinstance(value, Mapping):
        item_type = get_args(inner)[1]
        return {
            str(key): str(item) if isinstance(item, bool) else _convert(item, item_type, where, f"{name}.{key}")
            for key, item in value.items()
        }
    elif get_origin(inner) is Literal:
        if isinstance(value, bool) and {"yes", "no"} <= {*get_args(inner)}:  # what YAML makes of these words
            value = "yes" if value else "no"
        for choice in get_args(inner):
            if str(choice) == str(value):
                return choice
        raise UsageError(
            f"--{flag_of(name)} is {value!r}", where=where, remedy=nearest(str(value), map(str, get_args(inner)))
        )
    elif inner is bool and str(value).lower() in ("true", "false"):  # a variable is always text
        return str(value).lower() == "true"
    elif inner in (int, float, str, Path) and isinstance(value, _SCALARS) and not isinstance(value, bool):
        if inner is Path:
            return Path(at_home(str(value), where))
        try:
            if inner is int and isinstance(value, str):
                value = value.replace("_", "")
            converted = inner(value)
            if inner is not int or isinstance(value, str) or converted == value:
                return converted
        except (ValueError, OverflowError, TypeError):
            pass
    kinds = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path", tuple: "a list"}
    wanted = (
        "a group of options" if dataclasses.is_dataclass(inner) else kinds.get(get_origin(inner) or inner, "a text")
    )
    wanted = " or ".join([wanted, *words])
    raise UsageError(f"--{flag_of(name)} is {value!r}, which is not {wanted}", where=where, remedy=f"give {wanted}")
