"""Where a table came from: the commands that made it, the models that scored it, and what its makers say of it.

Nothing of this decides a number, and no fingerprint has it. What decides numbers is the identity, which knows a model
by its files; this knows it by the name that a person looks for.
"""

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from curricle.schemas.common.commandline import command_line
from curricle.schemas.manifest import CommandRun, Manifest, ModelOrigin, Provenance

DISTRIBUTION = "curricle"
TEXT = ("numpy", "pyarrow", "icu4py")
"""Libraries that decide what a record becomes, and where words end."""


def provenance(
    command: str,
    settings: Any,
    libraries: Iterable[str] = (),
    models: Iterable[ModelOrigin] = (),
    before: Sequence[Manifest] = (),
    license: str | None = None,
    language: Sequence[str] = (),
) -> Provenance:
    """What a command says of a table that it makes of ``before``: after all that they say of themselves.

    ``libraries``: distributions that decide its numbers; those that are not installed are left out.
    """
    earlier = [manifest.provenance for manifest in before if manifest.provenance]
    run = CommandRun(command=command_line(f"curricle {command}", settings), **_versions(libraries))
    runs = [each for one in earlier for each in one.commands]
    return Provenance(
        commands=_once([*runs, run]),
        models=_merged([*(model for one in earlier for model in one.models), *models]),
        license=_once([*(name for one in earlier for name in one.license), *([license] if license else [])]),
        language=_once([*(name for one in earlier for name in one.language), *language]),
    )


def commands_alone(manifest: Manifest) -> Manifest:
    """A manifest that says by which commands its numbers came about, and of models, licence and language nothing."""
    commands = manifest.provenance.commands if manifest.provenance else []
    return manifest.model_copy(update={"provenance": Provenance(commands=commands)})


def _versions(libraries: Iterable[str]) -> dict[str, Any]:
    installed = {name: number for name in libraries if (number := _version(name))}
    return {"curricle": _version(DISTRIBUTION) or "", "python": platform.python_version(), "libraries": installed}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _once(values: Sequence[Any]) -> list[Any]:
    """Each value once, where it stands last: a command that is run every night is one."""
    return [value for index, value in enumerate(values) if value not in values[index + 1 :]]


def _merged(models: Sequence[ModelOrigin]) -> list[ModelOrigin]:
    """Each model once, with all columns that rest on it."""
    columns: dict[tuple[str, str | None], dict[str, None]] = {}
    for model in models:
        columns.setdefault((model.name, model.revision), {}).update(dict.fromkeys(model.columns))
    return [
        ModelOrigin(name=name, revision=revision, columns=list(names)) for (name, revision), names in columns.items()
    ]
