"""Typed configuration: one dataclass is the flags of a command and the keys of its YAML file.

Standard library only, because ``--help`` has to answer at once: a parser library costs ten times as much
to import as the parser itself. The YAML file is for schemas.common.configfile.
"""

import argparse
import dataclasses
import difflib
import math
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from curricle.schemas.common.configfile import read_options
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.log import set_up_logging

T = TypeVar("T")

_SCALARS = (str, int, float, date)
_NAME = r"[\w.+-]+"
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


def _remedy(cls: type, name: str, names: Iterable[str]) -> str:
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
        return f"every value follows the name of its option: {flags[0]} {name}"
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
            flags.append(f"--{_flag(prefix + item.name)}")
    return flags


def parse(cls: type[T], arguments: Sequence[str], prog: str, description: str | None = None) -> T:
    """Build ``cls`` from its defaults, a ``--config`` YAML file and flags, each overriding the one before.

    An option ``log_format`` or ``log.format`` holds from here on: what is wrong with the others is said in that form.
    Raises UsageError for an unknown key, a value of the wrong type, or a required option left out.
    """
    parser = _Parser(prog=prog, description=description, allow_abbrev=False)
    if any(not item.metadata.get("positional") for item in dataclasses.fields(cls)):  # type: ignore[arg-type]
        parser.add_argument("--config", metavar="FILE", default=None, help="YAML file with the same keys as the flags")
    _add_flags(parser, cls)
    rest: dict[str, str] = {}
    flags = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
    namespace, unknown = parser.parse_known_args(_spelled(_collect_rest(cls, arguments, rest), flags))
    flag_values = vars(namespace)
    config = flag_values.pop("config", None)
    _log_as(flag_values)
    if unknown:
        raise UsageError(
            f"unknown argument {unknown[0]!r}", remedy=_remedy(cls, unknown[0].split("=")[0], flags), where=prog
        )
    values = _by_field(cls, read_options(Path(at_home(config, "--config"))).items(), config) if config else {}
    for key, value in flag_values.items():
        _put(values, key.split("."), value)
    for key, value in rest.items():
        _put(values, key.split(".", 1), value)
    _log_as(values)
    return build(cls, values, where=prog)


def build(cls: type[T], values: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """An instance of the dataclass from plain values; texts are converted to the field's type.

    A key may have dashes for underscores, and ``{"proxy.model": x}`` is ``{"proxy": {"model": x}}``.
    """
    values = _by_field(cls, values.items(), where, prefix)
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise UsageError(f"unknown option {prefix + key!r}", where=where, remedy=_remedy(cls, key, fields))
    options = {}
    for name, item in fields.items():
        if name in values:
            value = values[name]
            if "unnamed" in item.metadata and isinstance(value, str | os.PathLike):
                value = {item.metadata["unnamed"]: value}
            if "unnamed" in item.metadata and isinstance(value, Mapping):
                _check_names(value, where, f"--{_flag(prefix + name)}")
            options[name] = _convert(value, hints[name], where, prefix + name)
            _check_range(item, options[name], where, prefix)
            if item.metadata.get("path"):
                options[name] = _at_home(options[name], where)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            shown = name.upper() if item.metadata.get("positional") else f"--{_flag(prefix + name)}"
            raise UsageError(f"{shown} is required", where=where, remedy=item.metadata.get("help", ""))
    return cls(**options)


def _by_field(cls: type, pairs: Iterable[tuple[Any, Any]], where: str, prefix: str = "") -> dict[str, Any]:
    """The values by the names of the fields, those of a group together. UsageError for a value that is there twice.

    ``proxy.max-length: 512`` beside ``proxy: {model: x}`` gives ``{"proxy": {"model": "x", "max_length": 512}}``, and
    ``curriculum.bins: 8``, as the flag has it, an option of the curriculum. Below an option that takes several by name,
    keys are names of the user's, and stay as they are.
    """
    kinds = {name: _required(hint) for name, hint in typing.get_type_hints(cls).items()}
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
            values[name] = _by_field(kinds[name], inside, where, f"{prefix}{name}.")
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
                f"--{_flag(prefix + item.name)} is {number}",
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


def at_home(path: str, where: str) -> str:
    """The path with ``~`` or ``~NAME`` at its start as the home directory; UsageError where there is none.

    What is called so all the same (``./~/x``, ``~x``) is made absolute: libraries expand a ``~`` too, and would open
    another file than we do.
    """
    if not path.isascii() and sys.getfilesystemencoding() != "utf-8":
        raise UsageError(
            f"{path} would be another file for libraries that take every name for UTF-8",
            where=where,
            remedy="set PYTHONUTF8=1, or a locale with UTF-8",
        )
    if path == "~" or (path.startswith("~") and "/" in path):
        expanded = os.path.expanduser(path)
        if expanded == path or (path[:2] in ("~", "~/") and os.environ.get("HOME") == ""):
            raise UsageError(
                f"{path} is in no home directory that is known here",
                where=where,
                remedy=f"write out the path, or ./{path} for what is called so",
            )
        return expanded
    return os.path.abspath(path) if path and os.path.normpath(path).startswith("~") else path


def _at_home(value: Any, where: str) -> Any:
    if isinstance(value, tuple):
        return tuple(at_home(each, where) for each in value)
    if isinstance(value, dict):
        return {key: at_home(each, where) for key, each in value.items()}
    return at_home(value, where) if isinstance(value, str) else value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(message, where=self.prog, remedy=f"see `{self.prog} --help`")


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _add_flags(
    parser: argparse.ArgumentParser, cls: type, prefix: str = "", group: argparse._ArgumentGroup | None = None
) -> None:
    hints, flags = typing.get_type_hints(cls), group or parser
    for item in dataclasses.fields(cls):
        name, hint = prefix + item.name, hints[item.name]
        if dataclasses.is_dataclass(hint):
            _add_flags(parser, hint, f"{name}.", parser.add_argument_group(name))  # type: ignore[arg-type]
            continue
        if "rest" in item.metadata:
            continue
        text = item.metadata.get("help", "").replace("%", "%%")
        if item.default not in (dataclasses.MISSING, None, (), False):
            shown = ",".join(map(str, item.default)) if isinstance(item.default, tuple) else item.default
            text += f" (default: {shown})"
        if item.metadata.get("positional"):
            many = get_origin(hint) is tuple
            # SUPPRESS would leave out an empty list, and then "is required" is said by build
            flags.add_argument(
                name, nargs="*" if many else "?", default=argparse.SUPPRESS, help=text, metavar=name.upper()
            )
        elif hint is bool:
            switch = argparse.BooleanOptionalAction
            flags.add_argument(f"--{_flag(name)}", dest=name, default=argparse.SUPPRESS, action=switch, help=text)
        else:
            kind: Callable[[str], Any] = str
            if get_origin(_required(hint)) is tuple:
                kind = _cut
            elif get_origin(hint) is dict:
                kind = partial(named_values, flag=f"--{_flag(name)}", unnamed=item.metadata.get("unnamed"))
            flags.add_argument(
                f"--{_flag(name)}", dest=name, default=argparse.SUPPRESS, metavar=_metavar(hint), help=text, type=kind
            )


def _cut(text: str) -> list[str]:
    """The values of a flag that takes several. In a file a list says it, and a comma belongs to the name."""
    return text.split(",")


def named_values(text: str, flag: str, unnamed: str | None) -> dict[str, str]:
    """The values of a flag that takes several by name, NAME=VALUE,…; one without a name is ``unnamed``.

    A path ``./a=b`` has no name: a name has no separator in it. UsageError where a name is missing or comes twice.
    """
    pairs: dict[str, str] = {}
    for part in _cut(text):
        named = re.fullmatch(rf"({_NAME})=(.*)", part, re.DOTALL)
        name, value = (named[1], named[2]) if named else (unnamed, part)
        if name is None or name in pairs:
            raise UsageError(
                f"{flag} {text}: " + ("a value has no name" if name is None else f"two values are called {name!r}"),
                remedy="give NAME=VALUE,NAME=VALUE; a value that has a comma goes into a file, see --config",
            )
        pairs[name] = value
    return pairs


def _check_names(values: Mapping[str, Any], where: str, flag: str) -> None:
    for name in values:
        if not re.fullmatch(_NAME, str(name)):
            raise UsageError(f"{flag}: {name!r} is no name", where=where, remedy="give letters, digits and . + - _")


def _metavar(hint: Any) -> str:
    inner = _required(hint)
    if get_origin(inner) is Literal:
        return "|".join(str(choice) for choice in get_args(inner))
    if get_origin(inner) is tuple:
        return "A,B,…"
    if get_origin(inner) is dict:
        return "NAME=VALUE,…"
    return {int: "N", float: "X"}.get(inner, "TEXT")


def _required(hint: Any) -> Any:
    """The type inside ``Optional[...]``."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(choice for choice in get_args(hint) if choice is not type(None))
    return hint


def _spelled(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The arguments with ``--proxy.max_length`` as ``--proxy.max-length``, as a file may have it too."""
    spelled = []
    for argument in arguments:
        flag, *value = argument.split("=", 1)
        if flag not in flags and (dashed := flag.replace("_", "-")) in flags:
            argument = "=".join([dashed, *value])
        spelled.append(argument)
    return spelled


def _collect_rest(cls: type, arguments: Sequence[str], rest: dict[str, str]) -> list[str]:
    """Take ``--PREFIX.KEY VALUE`` out of the arguments for the fields that collect them."""
    prefixes = {f"--{item.metadata['rest']}.": item.name for item in dataclasses.fields(cls) if "rest" in item.metadata}
    left, pending = [], list(arguments)
    while pending:
        argument = pending.pop(0)
        prefix = next((prefix for prefix in prefixes if argument.startswith(prefix)), None)
        if prefix is None:
            left.append(argument)
            continue
        key, separator, value = argument.removeprefix(prefix).partition("=")
        if not separator:
            if not pending:
                raise UsageError(f"{argument} needs a value")
            value = pending.pop(0)
        rest[f"{prefixes[prefix]}.{key.replace('-', '_')}"] = value
    return left


def _log_as(values: Mapping[str, Any]) -> None:
    log = values.get("log")
    form = values.get("log_format") or values.get("log.format") or (isinstance(log, dict) and log.get("format"))
    if form == "json":
        set_up_logging("json")


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for step in path[:-1]:
        if values.get(step) is None:  # not there, or a key without a value
            values[step] = {}
        values = values[step]
        if not isinstance(values, dict):
            raise UsageError(f"{step!r} is {values!r}, not options", remedy=f"write the options below {step!r}")
    values[path[-1]] = value


def _convert(value: Any, hint: Any, where: str, name: str) -> Any:
    optional = type(None) in get_args(hint)
    inner = _required(hint)
    if value is None:
        if optional:
            return None
        if dataclasses.is_dataclass(inner) or get_origin(inner) is dict:
            return _convert({}, inner, where, name)
        raise UsageError(f"--{_flag(name)} has no value", where=where, remedy="give one, or leave the key out")
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
            items = [value] if item_type in (str, Path) else _cut(value)
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
            f"--{_flag(name)} is {value!r}", where=where, remedy=nearest(str(value), map(str, get_args(inner)))
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
    raise UsageError(f"--{_flag(name)} is {value!r}, which is not {wanted}", where=where, remedy=f"give {wanted}")
