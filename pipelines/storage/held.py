"""What is said of who holds a table."""

import json
import os
import socket
from typing import Any

from curricle.schemas.common.errors import DirectoryLocked
from curricle.schemas.files import Files


def read_holder(files: Files, name: str) -> dict[str, Any]:
    """What the holder wrote of itself; nothing if nobody holds the table, or the holder has ended meanwhile.

    Where it is damaged, a holder of whom nothing is known: a living one writes it again in a few seconds.
    """
    try:
        holder = json.loads(files.read(name))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        holder = None
    return holder if isinstance(holder, dict) and holder else {"run": None}


def held_by(where: str, holder: dict[str, Any]) -> DirectoryLocked:
    """The refusal, with what the holder wrote of itself."""
    return DirectoryLocked(
        f"another job holds this directory: {describe(holder)}",
        where=where,
        remedy="wait for it, stop it, or name another --output",
    )


def is_gone(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that has ended; of another machine's nothing can be told."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, as another user's
        pass
    return False


def describe(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, since {holder.get('since', '?')}"
