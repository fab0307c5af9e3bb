"""Commands that are killed before one of their file operations: a process that has imported everything, and forks.

Read as a script it is the server: a line of JSON asks for one command, a line answers. Nothing that starts threads has
run in it when it forks.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


class Server:
    """Runs `curricle` in children of one warm process."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def run(self, *arguments: object, cwd: Path, below: Path, kill: int | None = None, when: str = "") -> Outcome:
        """Run a command to its end, or kill it before its file operation number ``kill`` (from 0) below a directory.

        ``when``: only operations on paths that have this in them are counted.
        """
        request = {
            "arguments": [*map(str, arguments)],
            "cwd": str(cwd),
            "below": str(below),
            "kill": kill,
            "when": when,
        }
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Outcome(**json.loads(self.process.stdout.readline()))


@contextmanager
def server() -> Iterator[Server]:
    command = [sys.executable, "-P", str(Path(__file__))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.stdin.close()


def _relative(path: object, folder: object) -> str | None:
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    name = os.fsdecode(path)
    if isinstance(folder, int) and folder >= 0 and not os.path.isabs(name):
        name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
    return os.path.abspath(name)


def _count(below: str, when: str, kill: int | None, counter: int) -> None:
    """Write how many operations there were to a file descriptor, and die before one of them."""
    import signal

    done = 0

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
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        os.pwrite(counter, str(done).encode(), 0)

    sys.addaudithook(hook)


def _serve() -> None:
    import tempfile

    ours = (
        *("commands.add", "commands.cluster", "commands.score", "commands.select", "commands.transfer"),
        *("engines.local", "tables.making", "transforms.score"),
    )
    others = "curricle.curate.metrics.mtld_kernel", "curricle.curate.report", "filelock"
    for name in (*(f"curricle.pipelines.{module}" for module in ours), *others):
        importlib.import_module(name)
    from curricle.pipelines.cli import main
    from curricle.pipelines.processes.log import quieten_beam

    quieten_beam()
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile("w+b") as stream, tempfile.TemporaryFile("w+b") as counter:
            child = os.fork()
            if not child:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
                os.chdir(request["cwd"])
                below = os.path.join(os.path.realpath(request["below"]), "")
                _count(below, request["when"], request["kill"], counter.fileno())
                code = 70
                try:
                    code = main(request["arguments"])
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            stream.seek(0)
            counter.seek(0)
            answer = {
                "code": None if status < 0 else status,
                "operations": int(counter.read() or b"0"),
                "output": stream.read().decode(errors="replace"),
            }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
