"""Public names of a package that are imported when they are asked for: ``--help`` reads the package too."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attach(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package. ``modules``: for each public name, the module that has it."""

    def attribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    def names() -> list[str]:
        """For ``help()`` and for completion, which would not see what is imported later."""
        return sorted({*vars(sys.modules[package]), *modules})

    return attribute, names
