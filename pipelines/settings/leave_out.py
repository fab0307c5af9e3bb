"""The option of the commands that learn from a table: which of its rows not to learn from."""

from curricle.schemas.common.errors import UsageError


def check_names(paths: tuple[str, ...]) -> None:
    """UsageError for the path of a table to leave out that the trainer would take for two."""
    if wrong := next((path for path in paths if "," in path), None):
        raise UsageError("a comma separates tables", where=f"--leave-out {wrong}", remedy="give it a name without one")
