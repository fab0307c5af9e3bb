"""The curricula by name: ours, and those of others, from an installed distribution or from a file.

A new one of ours is a module and a line here.
"""

from collections.abc import Mapping
from dataclasses import make_dataclass
from typing import Any, NoReturn, get_origin, get_type_hints
from urllib.parse import parse_qsl

from curricle.schemas.common import config
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.flags import parse
from curricle.schemas.common.plugins import Group
from curricle.train.curricula.base import Curriculum
from curricle.train.curricula.campus.curriculum import Campus
from curricle.train.curricula.campus.random_stages import RandomStages
from curricle.train.curricula.competence import Competence
from curricle.train.curricula.cyclical import Cyclical
from curricle.train.curricula.interleaving import Blocked, Interleaved
from curricle.train.curricula.mixtures.doremi import Doremi
from curricle.train.curricula.mixtures.multistage import Multistage
from curricle.train.curricula.mixtures.odm import Odm
from curricle.train.curricula.mixtures.skill_it import SkillIt
from curricle.train.curricula.mixtures.static import Mixture
from curricle.train.curricula.pacing import Paced
from curricle.train.curricula.random import Random
from curricle.train.curricula.sorted import Sorted

CURRICULA: dict[str, type[Curriculum]] = {
    "campus": Campus,
    "random": Random,
    "random_stages": RandomStages,
    "sorted": Sorted,
    "competence": Competence,
    "paced": Paced,
    "cyclical": Cyclical,
    "blocked": Blocked,
    "interleaved": Interleaved,
    "mixture": Mixture,
    "multistage": Multistage,
    "odm": Odm,
    "skill_it": SkillIt,
    "doremi": Doremi,
}


PLUGINS: Group[type[Curriculum]] = Group(
    "curricle.curricula",
    "curriculum",
    "a subclass of curricle.train.curricula.base.Curriculum",
    lambda value: isinstance(value, type) and issubclass(value, Curriculum) and value is not Curriculum,
    ours=CURRICULA,
)


def named(name: str) -> type[Curriculum]:
    """A curriculum by name; UsageError if there is none."""
    return CURRICULA[name] if name in CURRICULA else PLUGINS.load(name).object


def origin(name: str) -> dict[str, str]:
    """Where a curriculum of others is from, see ``schemas.common.plugins.Plugin``; nothing for one of ours."""
    return {} if name in CURRICULA else PLUGINS.load(name).identity


def completed(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as an order records them, with what an earlier version meant by those that it did not have."""
    return {**(CURRICULA[name].ABSENT if name in CURRICULA else {}), **options}


def show_options(name: str, command: str, option: str = "curriculum") -> NoReturn:
    """Print what a curriculum does and the flags of its options, as ``--help`` of a command does, and exit."""
    flags = make_dataclass("Flags", [(option, named(name))])
    parse(flags, ["--help"], f"{command} --{option} {name}", named(name).__doc__)
    raise AssertionError("--help exits")


def options_in(query: str, of: str) -> list[tuple[str, str]]:
    """The options of an order, ``key=value&key=value``; UsageError, which begins with ``of``, for what is none."""
    try:
        return parse_qsl(query, strict_parsing=True) if query else []
    except ValueError as error:
        raise UsageError(f"{of} is not NAME?key=value&key=value", remedy="for example sorted?by=loss") from error


def build(name: str, options: Mapping[str, Any]) -> Curriculum:
    """A curriculum by name, its options as texts or values; UsageError for what is unknown or out of range.

    A text for an option that takes several values is a flag, and is cut at its commas; a mapping is NAME=VALUE each.
    """
    curriculum = named(name)
    several = {key for key, hint in get_type_hints(curriculum).items() if get_origin(hint) is tuple}
    values = {key: _several(value) if key in several else value for key, value in options.items()}
    return config.build(curriculum, values, where=f"curriculum {name}", prefix="curriculum.")


def _several(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [f"{name}={each}" for name, each in value.items()]
    return config.pieces(value) if isinstance(value, str) else value
