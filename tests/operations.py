"""Commands that are killed, or asked to stop, before one of their file operations.

Read as a script it is such a command: an audit hook counts what Python does to files below a directory.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Outcome:
    """``code`` is None for a command that was killed; ``operations`` are those that it came to, killed or not."""

    code: int | None
    operations: int
    output: str


def run(
    *arguments: object,
    cwd: Path,
    below: Path,
    kill: int | None = None,
    when: str = "",
    sent: signal.Signals = signal.SIGKILL,
) -> Outcome:
    """Run `curricle` to its end, or kill it before its file operation number ``kill`` (from 0) below a directory.

    ``when``: only operations on paths that have this in them are counted. ``sent``: another signal, that may be caught.
    """
    import forking

    with tempfile.NamedTemporaryFile() as counter:
        how = json.dumps([os.path.join(os.path.realpath(below), ""), when, kill, counter.name, sent])
        code = f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')"
        process = forking.Command(
            [sys.executable, "-P", "-c", code, how, *map(str, arguments)],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output, _ = process.communicate()
        ended = process.returncode
        return Outcome(None if ended == -signal.SIGKILL else ended, int(counter.read() or b"0"), output)


def _relative(path: object, folder: object) -> str | None:
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    name = os.fsdecode(path)
    if isinstance(folder, int) and folder >= 0 and not os.path.isabs(name):
        name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
    return os.path.abspath(name)


def _count(below: str, when: str, kill: int | None, counter: str, sent: int) -> None:
    """Write how many operations there were to a file, and die before one of them, or get a signal."""
    done, count = 0, os.open(counter, os.O_WRONLY)

    def hook(event: str, arguments: tuple) -> None:
        nonlocal done
        if event not in EVENTS:
            return
        if event == "open":
            path, folder = arguments[0], None
            if not arguments[2] & WRITES:
                return
        elif event == "os.rename":
            path, folder = arguments[1], arguments[3]
        else:
            path, folder = arguments[0], arguments[-1]
        name = _relative(path, folder)
        if name is None or not (name + "/").startswith(below) or when not in name:
            return
        if done == kill:
            os.kill(os.getpid(), sent)
        done += 1
        os.pwrite(count, str(done).encode(), 0)

    sys.addaudithook(hook)


if __name__ == "__main__":
    from curricle.pipelines.cli import main

    _count(*json.loads(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
