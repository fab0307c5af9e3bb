"""What is said of who holds a table."""

import json
from typing import Any

from schemas.errors import Held
from schemas.files import Files


def read_holder(files: Files, name: str) -> dict[str, Any]:
    """What the holder wrote of itself; nothing if nobody holds the table, or the holder has ended meanwhile."""
    try:
        return json.loads(files.read(name))
    except FileNotFoundError:
        return {}


def held_by(where: str, holder: dict) -> Held:
    """The refusal, with what the holder wrote of itself."""
    return Held(
        f"another job holds this directory: {describe(holder)}",
        where=where,
        remedy="wait for it, stop it, or name another --output",
    )


def describe(holder: dict) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, since {holder.get('since', '?')}"
