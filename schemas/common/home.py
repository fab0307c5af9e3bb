"""Home directories in paths that users write."""

import os
import sys

from curricle.schemas.common.errors import UsageError


def at_home(path: str, where: str) -> str:
    """The path with ``~`` or ``~NAME`` at its start as the home directory; UsageError where there is none.

    What is called so all the same (``./~/x``, ``~x``) is made absolute: libraries expand a ``~`` too, and would open
    another file than we do.
    """
    if not path.isascii() and sys.getfilesystemencoding() != "utf-8":
        raise UsageError(
            f"{path} would be another file for libraries that take every name for UTF-8",
            where=where,
            remedy="set PYTHONUTF8=1, or a locale with UTF-8",
        )
    if path == "~" or (path.startswith("~") and "/" in path):
        expanded = os.path.expanduser(path)
        if expanded == path or (path[:2] in ("~", "~/") and os.environ.get("HOME") == ""):
            raise UsageError(
                f"{path} is in no home directory that is known here",
                where=where,
                remedy=f"write out the path, or ./{path} for what is called so",
            )
        return expanded
    return os.path.abspath(path) if path and os.path.normpath(path).startswith("~") else path
