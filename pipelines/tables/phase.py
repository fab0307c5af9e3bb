"""What a job is at, by a name: in its log, and in its directory for ``curricle status``."""

import json
import logging
from contextlib import suppress
from typing import Any

from curricle.pipelines.tables.directory import LIVE, OutputDirectory
from curricle.schemas.common.errors import UserError

log = logging.getLogger("curricle")

PUBLISHED = f"{LIVE}/phase.json"


def enter(directory: OutputDirectory, run: str, phase: str, **figures: Any) -> None:
    """A line for a phase that begins; ``figures`` are fields of it where lines are JSON."""
    log.info("%s", phase, extra={"figures": {"phase": phase, **figures}})
    with suppress(UserError):  # for the eye alone
        publish(directory, run, phase=phase)


def publish(directory: OutputDirectory, run: str, **figures: Any) -> None:
    """Say for `status` what only the driver knows, until it says something else or its table is whole."""
    directory.storage.write(PUBLISHED, json.dumps({"run": run, **figures}).encode(), durable=False)


def published(directory: OutputDirectory, run: str) -> dict[str, Any]:
    """What the driver of a run has said last; nothing if it has not."""
    with suppress(FileNotFoundError, ValueError, RecursionError):
        figures = json.loads(directory.storage.read(PUBLISHED))
        if isinstance(figures, dict) and figures.get("run") == run:
            number = int | float | None
            types = {"phase": str | None, "rate": number, "unit": str | None, "seconds_left": number}
            return {name: figures.get(name) for name, of in types.items() if isinstance(figures.get(name), of)}
    return {}
