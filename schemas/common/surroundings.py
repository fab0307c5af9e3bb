"""What a command finds around it: streams that cannot show every character, readers that leave, no home directory."""

import contextlib
import os
import select
import sys
from pathlib import Path

from curricle.schemas.common.errors import UserError
from curricle.schemas.common.log import printable
from curricle.schemas.common.secrets import redacted

CACHES = {
    "MPLCONFIGDIR": "matplotlib",
    "NUMBA_CACHE_DIR": "numba",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
    "HF_HOME": "huggingface",
    "VLLM_CACHE_ROOT": "vllm",
    "VLLM_CONFIG_ROOT": "vllm-config",
}
"""Where libraries keep what they made; by themselves they look below the home directory, or into a folder called ~."""


def settle() -> None:
    """Make this process fit to say anything, and to run where nobody has a home; its children inherit that."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would get its number, and what is printed
            os.open(os.devnull, os.O_RDWR)
    for number, name in ((1, "stdout"), (2, "stderr")):  # what was closed when Python began is None to it
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if not CACHES.keys() <= os.environ.keys() and not _is_writable(os.path.expanduser("~")):
        cache = os.environ.get("CURRICLE_CACHE")
        if not (cache and _is_writable(cache)):
            cache = _temporary()
        for variable, name in CACHES.items():
            os.environ.setdefault(variable, os.path.join(cache, name))
    if home := cache_home():  # torch keeps compiled code by a name that anyone can guess in the temporary directory
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home / "torchinductor"))


def show(line: str) -> None:
    """Print a line as log lines are: without what a terminal obeys, and without values of the environment.

    UserError where standard output cannot be written, BrokenPipeError where nobody reads it.
    """
    try:
        print(printable(redacted(line)))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"standard output cannot be written: {error.strerror}", remedy="send it elsewhere") from error


def unread() -> bool:
    """Whether nobody can read any more what is written to standard output."""
    try:
        out = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # no file
        return False
    poll = select.poll()
    poll.register(out, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def forget_output() -> None:
    """Send what standard output still holds nowhere, so that the interpreter does not complain as it ends."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _is_writable(path: str) -> bool:
    return os.path.isabs(path) and os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)


def _temporary() -> str:
    import atexit
    import shutil
    import tempfile

    directory, maker = tempfile.mkdtemp(prefix="curricle-"), os.getpid()

    def remove() -> None:
        if os.getpid() == maker:
            shutil.rmtree(directory, ignore_errors=True)

    atexit.register(remove)
    return directory


def cache_home() -> Path | None:
    """$CURRICLE_CACHE, else ``curricle`` in $XDG_CACHE_HOME or ~/.cache; None where there is no home."""
    if chosen := os.environ.get("CURRICLE_CACHE"):
        return Path(os.path.abspath(chosen))
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(os.path.abspath(shared), "curricle")
    with contextlib.suppress(RuntimeError):
        if (home := Path.home()).is_absolute():
            return home / ".cache" / "curricle"
    return None
