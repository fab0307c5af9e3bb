"""What is said of who holds a table."""

from schemas.errors import Held


def held_by(where: str, holder: dict) -> Held:
    """The refusal, with what the holder wrote of itself."""
    return Held(
        f"another job holds this directory: {describe(holder)}",
        where=where,
        remedy="wait for it, stop it, or name another --output",
    )


def describe(holder: dict) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, since {holder.get('since', '?')}"
