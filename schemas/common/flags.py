"""The flags of a command: one for each field of a dataclass, over what a YAML file with the same keys has.

Standard library only, because ``--help`` has to answer at once: a parser library costs ten times as much to import as
the parser itself. The YAML file is for schemas.common.configfile.
"""

import argparse
import dataclasses
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from curricle.schemas.common.config import NAME, alternatives, build, by_field, flag_of, pieces, remedy_for, required
from curricle.schemas.common.configfile import read_options
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.home import at_home
from curricle.schemas.common.log import set_up_logging

T = TypeVar("T")


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
            f"unknown argument {unknown[0]!r}", remedy=remedy_for(cls, unknown[0].split("=")[0], flags), where=prog
        )
    values = by_field(cls, read_options(Path(at_home(config, "--config"))).items(), config) if config else {}
    for key, value in flag_values.items():
        _put(values, key.split("."), value)
    for key, value in rest.items():
        _put(values, key.split(".", 1), value)
    _log_as(values)
    return build(cls, values, where=prog)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(message, where=self.prog, remedy=f"see `{self.prog} --help`")

    def print_help(self, file: Any = None) -> None:
        """As argparse does, which would not say that nobody reads it, once it fills more than a buffer."""
        (file or sys.stdout).write(self.format_help())


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
            flags.add_argument(f"--{flag_of(name)}", dest=name, default=argparse.SUPPRESS, action=switch, help=text)
        else:
            kind: Callable[[str], Any] = str
            if get_origin(required(hint)) is tuple:
                kind = pieces
            elif get_origin(hint) is dict:
                kind = partial(named_values, flag=f"--{flag_of(name)}", unnamed=item.metadata.get("unnamed"))
            flags.add_argument(
                f"--{flag_of(name)}", dest=name, default=argparse.SUPPRESS, metavar=_metavar(hint), help=text, type=kind
            )


def named_values(text: str, flag: str, unnamed: str | None) -> dict[str, str]:
    """The values of a flag that takes several by name, NAME=VALUE,…; one without a name is ``unnamed``.

    A path ``./a=b`` has no name: a name has no separator in it. UsageError where a name is missing or comes twice.
    """
    pairs: dict[str, str] = {}
    for part in pieces(text):
        named = re.fullmatch(rf"({NAME})=(.*)", part, re.DOTALL)
        name, value = (named[1], named[2]) if named else (unnamed, part)
        if name is None or name in pairs:
            raise UsageError(
                f"{flag} {text}: " + ("a value has no name" if name is None else f"two values are called {name!r}"),
                remedy="give NAME=VALUE,NAME=VALUE; a value that has a comma goes into a file, see --config",
            )
        pairs[name] = value
    return pairs


def _metavar(hint: Any) -> str:
    inner = required(hint)
    if get_origin(inner) is Literal:
        return "|".join(str(choice) for choice in get_args(inner))
    if get_origin(inner) is tuple:
        return "A,B,…"
    if get_origin(inner) is dict:
        return "NAME=VALUE,…"
    return "|".join([{int: "N", float: "X"}.get(inner, "TEXT"), *alternatives(hint)])


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
