"""A YAML file of options, with variables of the environment.

Texts in the file may name variables: ``${NAME}``, which has to be set, and ``${NAME:-default}``, which stands for the
default where it is not set or empty; ``$${`` is a plain ``${``. What came from the environment is never printed, in no
message and no log line: ``${NAME}`` is (schemas.common.secrets).
"""

import os
import re
from pathlib import Path
from typing import Any

from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.secrets import remember

_VARIABLE = re.compile(r"\$(\$?)\{(\w+)(?::-([^{}]*))?\}")

_NOT_PLAIN = re.compile(r"[+-]?(0[0-9_]|[0-9][0-9_]*:)")
"""Of what YAML 1.1 takes for numbers: 0100, which is 64 to it, and 1:30, which is 90."""


def read_options(path: Path) -> dict[str, Any]:
    """The options in a file, by the keys that it has. UsageError for what is no YAML of options."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):  # a few lines of them stand for more than fits into memory
                mark = self.peek_event().start_mark
                raise yaml.composer.ComposerError(problem="aliases (*name) are not read", problem_mark=mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            lines: dict[str, int] = {}
            for key, _ in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    raise yaml.constructor.ConstructorError(problem="<< is not read", problem_mark=key.start_mark)
                name, line = str(self.construct_object(key, deep=True)), key.start_mark.line + 1
                if name in lines:
                    found = f"the option {name!r} is there twice, in line {lines[name]} and line {line}"
                    raise UsageError(found, where=where, remedy="write it once")
                lines[name] = line
            return super().construct_mapping(node, deep)

        def construct_number(self, node: Any) -> int | float:
            if _NOT_PLAIN.match(node.value):
                found = f"line {node.start_mark.line + 1} holds a number that YAML reads as octal or in base 60"
                remedy = "write it plainly, without a 0 before it or a colon in it; a text goes in quotes"
                raise UsageError(found, where=where, remedy=remedy)
            kind = node.tag.rpartition(":")[2]
            return self.construct_yaml_int(node) if kind == "int" else self.construct_yaml_float(node)

    for kind in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.construct_number)

    where = str(path)
    try:
        values = _expand(Loader(path.read_text("utf-8")).get_single_data(), where, "")
    except FileNotFoundError as error:
        raise UsageError("there is no such file", where=where, remedy="name a YAML file that is there") from error
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}", where=where, remedy="name a YAML file that can be read"
        ) from error
    except yaml.MarkedYAMLError as error:  # its own text quotes the file, which may hold secrets
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"not YAML: {error.problem}{line}", where=where, remedy="mend the file") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"not YAML: {str(error) or type(error).__name__}", where=where, remedy="mend the file"
        ) from error
    if not isinstance(values, dict):
        held = "nothing" if values is None else type(values).__name__
        raise UsageError(f"holds {held}, not options", where=where, remedy="write `key: value`")
    return values


def _expand(value: Any, where: str, name: str) -> Any:
    """The value with its variables replaced."""
    if isinstance(value, dict):
        return {str(key): _expand(item, where, f"{name}.{key}" if name else str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, where, name) for item in value]
    return _VARIABLE.sub(lambda match: _value_of(match, where, name), value) if isinstance(value, str) else value


def _value_of(match: re.Match[str], where: str, name: str) -> str:
    escaped, variable, default = match.groups()
    if escaped:
        return match[0][1:]
    value = os.environ.get(variable)
    if default is not None and not value:
        return default
    if value is None:
        raise UsageError(
            f"{name} needs the environment variable {variable}, which is not set",
            where=where,
            remedy=f"set it, or write ${{{variable}:-default}}",
        )
    remember(variable, value)
    return value
