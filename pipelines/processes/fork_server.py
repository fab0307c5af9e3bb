"""A process that imports what workers need once, and is forked for each of them: libraries take seconds to import.

A fork has one thread, so nothing may be imported here whose other threads matter; those of OpenBLAS and jemalloc start
again by themselves. The fork server of ``multiprocessing`` would run a user's main module in every worker again.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from importlib import import_module
from itertools import count
from select import select

from curricle.pipelines.processes.collector import seldom

_LOOK_EVERY = 0.1
"""Seconds between two looks at which workers have ended."""


class ForkServer:
    """Starts at once to import ``module``, whose ``main`` is what a worker runs, and what it will need beside it.

    What the server and its workers print goes where what this process prints goes, as standard error.
    """

    def __init__(self, module: str, libraries: Iterable[str]) -> None:
        # a pipe of its own: what is imported may print, and before anything of ours runs
        self._answers, answers = os.pipe()
        command = [sys.executable, "-P", "-m", __name__, str(answers), module, *libraries]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, bufsize=0, pass_fds=[answers])
        os.close(answers)
        self._numbers, self._lock = count(), threading.Lock()
        self._ends: dict[int, Future[int]] = {}
        threading.Thread(target=self._watch, name="fork server", daemon=True).start()

    def run(self, environment: Mapping[str, str]) -> int:
        """Run a worker, with these variables beside the server's own, and return how it ended: see ``Popen.wait``."""
        assert self._process.stdin
        end: Future[int] = Future()
        with self._lock:
            number = next(self._numbers)
            self._ends[number] = end
            try:
                self._process.stdin.write(json.dumps([number, environment]).encode() + b"\n")
            except BrokenPipeError:  # it has ended, because it could not import something
                return self._process.wait()
        return end.result()

    def close(self) -> None:
        """Start no more workers. The server ends with the last one."""
        assert self._process.stdin
        self._process.stdin.close()

    def _watch(self) -> None:
        with os.fdopen(self._answers, "rb") as lines:
            for line in lines:
                number, code = map(int, line.split())
                self._ends.pop(number).set_result(code)
        code = self._process.wait()
        with self._lock:
            for end in self._ends.values():  # of workers that nobody can wait for any more
                end.set_result(code)


def _serve(answers: int) -> Mapping[str, str] | None:
    """Returns in every worker, with its variables; and in the server None, when there will be none any more."""
    # whoever asks all of us to stop means the workers
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored there is nothing to wait for
    workers: dict[int, int] = {}
    opened, unread = True, b""
    while opened or workers:
        if select([0] if opened else [], [], [], _LOOK_EVERY if workers else None)[0]:
            chunk = os.read(0, 1 << 16)
            opened = bool(chunk)
            *requests, unread = (unread + chunk).split(b"\n")
            for request in requests:
                number, environment = json.loads(request)
                process = os.fork()
                if not process:
                    os.close(answers)
                    for each, handler in handlers.items():
                        signal.signal(each, handler)
                    with open(os.devnull, "rb") as nothing:
                        os.dup2(nothing.fileno(), 0)
                    return dict(environment)
                workers[process] = number
        while workers and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with suppress(BrokenPipeError):  # who has started this may be gone
                os.write(answers, b"%d %d\n" % (workers.pop(ended[0]), os.waitstatus_to_exitcode(ended[1])))
    return None


def main(answers: int, module: str, *libraries: str) -> None:
    """The server, and then each worker. Where all goes well nothing is taken apart at the end, which takes a while."""
    done = False

    def leave() -> None:
        if done:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    seldom()
    atexit.register(leave)  # the first that is registered is the last that is called
    for name in (module, *libraries):
        import_module(name)
    environment = _serve(answers)
    if environment is not None:
        os.environ.update(environment)
        if "numpy.random" in sys.modules:  # Python's own generator does so by itself
            sys.modules["numpy.random"].seed()
        import_module(module).main([])
    done = True


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
