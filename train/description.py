"""``run.json``: what a run was started with, and whether it is finished."""

import json
from dataclasses import asdict
from typing import Any

from schemas.disk import write_whole
from schemas.errors import UsageError
from schemas.fingerprint import differences
from schemas.rendering import IDENTITY
from train.reward.settings import RewardSettings
from train.settings import RunSettings, identity
from train.table import Table

RUN = "run.json"


def describe(settings: RunSettings | RewardSettings, table: Table, finished: int | None = None) -> None:
    """Write it; ``finished`` is the step of the last checkpoint, or the rows scored, once nothing is left to do."""
    about = {"identity": _identity(settings, table), "settings": asdict(settings), "finished": finished}
    write_whole(settings.output / RUN, json.dumps(about, indent=1, default=str))


def finished_at(settings: RunSettings | RewardSettings, table: Table) -> int | None:
    """``finished`` of the run that is there, if it is.

    UsageError, with the differences, if it was started with settings, or a table, that teach something else.
    """
    path = settings.output / RUN
    if not path.exists():
        return None
    before = json.loads(path.read_bytes())
    if changed := differences(before["identity"], json.loads(json.dumps(_identity(settings, table)))):
        raise UsageError(
            "the run was started with other settings:\n  " + "\n  ".join(changed),
            where=str(path),
            remedy="run the same command as before, or choose another --output",
        )
    finished: int | None = before.get("finished")
    return finished


def _identity(settings: RunSettings | RewardSettings, table: Table) -> dict[str, Any]:
    return {
        "table": {"digest": table.digest, "fingerprint": table.fingerprint},
        "settings": identity(settings),
        "rendering": IDENTITY,
    }
