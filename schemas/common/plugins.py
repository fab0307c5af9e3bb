"""Plug-ins: what others add under a name of their own, from an installed distribution or from a file.

A name is that of an entry point in one of the groups ``curricle.metrics``, ``curricle.formats``, ``curricle.readers``,
``curricle.curricula`` and ``curricle.engines``, or ``PATH.py:NAME``, what a file calls NAME. A file runs as it is
loaded, so it is only ever loaded because a user names it, never because a table or a journal does. Nothing of a plug-in
is imported before it is asked for by its name.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError, UserError

T = TypeVar("T")
P = TypeVar("P", bound="Pluggable")


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """What a name stands for. ``identity`` says, as JSON, where it is from, for fingerprints and journals:
    ``distribution`` and ``version``, or ``file`` (without its folders) and ``sha256``.
    """

    name: str
    object: T
    identity: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """Where a plug-in is from, so that another process loads the same one. ``name`` of a file has its whole path."""

    group: str
    noun: str
    name: str
    identity: dict[str, str]

    def load(self) -> Any:
        """The plug-in, loaded again. UserError if it is not there, or is another one."""
        remedy = f"put the same file there on every machine, or install the {self.noun} everywhere as a package"
        try:
            plugin = Group[Any](self.group, self.noun, "the same", lambda _: True).load(self.name)
        except UsageError as error:
            found = f"a worker cannot load the {self.noun}: {error.found}"
            raise UserError(found, where=error.where or self.name, remedy=remedy) from error
        if plugin.identity != self.identity:
            found = f"a worker has another {self.noun} there than the driver: {plugin.identity}, not {self.identity}"
            raise UserError(found, where=self.name, remedy=remedy)
        return plugin.object

    @contextmanager
    def blamed(self, at: str) -> Iterator[None]:
        """What goes wrong inside the plug-in, as an error that names it and what it was at."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            found = f"failed: {_reason(error)}"
            where = f"{self.noun} {self.name}, {at}"
            raise UserError(found, where=where, remedy=f"mend the {self.noun}, or leave it out") from error


class Pluggable:
    """A base for what a plug-in may hold: such objects are pickled as where they are from, and loaded again.

    The code of a plug-in is never pickled: what runs in a worker is what lies there, if it is the same.
    """

    origin: Origin | None

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.origin is None:
            return super().__reduce_ex__(protocol)
        return _again, (self.origin, self._set_here())

    def _set_here(self) -> dict[str, Any]:
        """The fields that differ from what the plug-in says."""
        return {}


def stamped(plugin: P, origin: Origin, **fields: Any) -> P:
    """A copy that knows where it is from, with these fields."""
    copied = copy(plugin)
    for name, value in {**fields, "origin": origin}.items():
        object.__setattr__(copied, name, value)  # where a dataclass is frozen
    return copied


def _again(origin: Origin, fields: dict[str, Any]) -> Any:
    return stamped(origin.load(), origin, **fields)


@dataclass(frozen=True)
class Group(Generic[T]):
    """The plug-ins of one kind: an entry-point group and what its members have to be.

    ``fits`` tells whether an object may stand there, and ``wanted`` says in words what would. ``ours`` are the names
    that no plug-in can take: whoever looks a name up looks there first.
    """

    name: str
    noun: str
    wanted: str
    fits: Callable[[Any], bool]
    ours: Collection[str] = ()

    def names(self) -> list[str]:
        """The names of installed plug-ins, sorted. Nothing is imported."""
        return sorted({point.name for point in entry_points(group=self.name)} - {*self.ours})

    def load(self, name: str) -> Plugin[T]:
        """The plug-in of this name. UsageError if there is none, if it cannot be imported, or is no such thing."""
        assert name not in self.ours, f"{name!r} is ours"
        return self._from_file(name) if is_file(name) else self._installed(name)

    def origin(self, plugin: Plugin[T]) -> Origin:
        """Where this plug-in of the group is from."""
        path, _, attribute = plugin.name.rpartition(":")
        name = f"{os.path.abspath(path)}:{attribute}" if is_file(plugin.name) else plugin.name
        return Origin(self.name, self.noun, name, plugin.identity)

    def _installed(self, name: str) -> Plugin[T]:
        points = [point for point in entry_points(group=self.name) if point.name == name]
        if not points:
            names = [*self.ours, *self.names()]
            there, close = f"there are: {', '.join(sorted(names))}", nearest(name, names)
            named = there if close == there else f"{close} {there}"
            raise UsageError(
                f"unknown {self.noun} {name!r}",
                remedy=f"{named} (or name a file: ./my.py:{self.noun.upper()})",
            )
        if len(points) > 1:
            raise UsageError(
                f"the {self.noun} {name!r} is in several distributions: {', '.join(sorted(map(_origin, points)))}",
                remedy="uninstall all but one of them",
            )
        point = points[0]
        where = f"{self.noun} {name!r} of {_origin(point)}"
        try:
            value = point.load()
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{point.value} cannot be imported: {_reason(error)}",
                where=where,
                remedy="install what it needs, or another version of it",
            ) from error
        version = {"distribution": point.dist.name, "version": point.dist.version} if point.dist else {}
        return Plugin(name, self._checked(value, where), version)

    def _from_file(self, name: str) -> Plugin[T]:
        path, _, attribute = name.rpartition(":")
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UsageError(
                f"cannot be read: {error.strerror}",
                where=path,
                remedy=f"name a file and what it calls the {self.noun}: ./my.py:NAME",
            ) from error
        module = _module(Path(path).resolve(), content)
        if not hasattr(module, attribute):
            names = [key for key, value in vars(module).items() if not key.startswith("_") and self.fits(value)]
            raise UsageError(
                f"there is no {attribute!r} in it",
                where=path,
                remedy=nearest(attribute, names) if names else f"define {self.wanted} there",
            )
        identity = {"file": Path(path).name, "sha256": hashlib.sha256(content).hexdigest()}
        return Plugin(name, self._checked(getattr(module, attribute), name), identity)

    def _checked(self, value: Any, where: str) -> T:
        if not self.fits(value):
            is_a = f"the class {value.__qualname__}" if isinstance(value, type) else type(value).__name__
            raise UsageError(f"it is {is_a}", where=where, remedy=f"a {self.noun} has to be {self.wanted}")
        return cast(T, value)


def is_file(name: str) -> bool:
    """Whether a name is ``PATH.py:NAME``."""
    path, colon, attribute = name.rpartition(":")
    return bool(colon) and path.endswith(".py") and attribute.isidentifier()


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


@cache
def _module(path: Path, content: bytes) -> ModuleType:
    """The module that a file is, run once for each content of it: what runs is what the digest is of.

    It stands in ``sys.modules``, where dataclasses and type hints look, under a name that follows from its content.
    """
    module = ModuleType(f"curricle_file_{path.stem}_{hashlib.sha256(content).hexdigest()[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(content, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        raise UsageError(
            f"cannot be imported: {'' if line is None else f'line {line}: '}{_reason(error)}",
            where=str(path),
            remedy="mend the file, or install what it imports",
        ) from error
    return module


def _reason(error: BaseException) -> str:
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
