"""A process that imports what workers need once, and is forked for each of them: libraries take seconds to import.

A fork has one thread, so nothing may be imported here whose other threads matter; those of OpenBLAS and jemalloc start
again by themselves. The fork server of ``multiprocessing`` would run a user's main module in every worker again.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from importlib import import_module
from select import select
from tempfile import TemporaryFile

from curricle.pipelines.processes.collector import seldom

_LOOK_EVERY = 0.1
"""Seconds between two looks at which workers have ended."""
_LONGEST = 1 << 20
"""Bytes of a message, and of what is passed on of what the server has printed."""


class ForkServer:
    """Starts at once to import ``module``, whose ``main`` is what a worker runs, and what it will need beside it.

    A worker prints to where this process's standard error goes when it is asked for; what is printed before, as
    libraries are imported, comes there when there are no more workers.
    """

    def __init__(self, module: str, libraries: Iterable[str], environment: Mapping[str, str]) -> None:
        # whole messages by a descriptor of their own: what is imported may print, and before anything of ours runs
        self._server, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._printed = TemporaryFile()  # noqa: SIM115  close() closes it
        command = [sys.executable, "-P", "-m", __name__, str(other.fileno()), module, *libraries]
        with other:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=self._printed,
                pass_fds=[other.fileno()],
            )
        self._requests, self._lock = 0, threading.Lock()
        self._ends: dict[int, Future[int]] = {}
        self._code: int | None = None
        threading.Thread(target=self._watch, name="fork server", daemon=True).start()

    def run(self, environment: Mapping[str, str]) -> int:
        """Run a worker in this environment, and return how it ended: see ``Popen.wait``."""
        end: Future[int] = Future()
        with self._lock:
            if self._code is not None:  # it has ended, because it could not import something
                self._show()
                return self._code
            self._requests += 1
            self._ends[self._requests] = end
            with os.fdopen(os.memfd_create("environment"), "wb", buffering=0) as variables:
                variables.write(json.dumps(dict(environment)).encode())
                with suppress(ConnectionError):  # it is about to be seen to have ended
                    socket.send_fds(self._server, [b"%d" % self._requests], [variables.fileno(), 2])
        return end.result()

    def close(self) -> None:
        """Start no more workers. The server ends with the last one, or at once if there was none. It may come twice."""
        with self._lock:
            if self._requests:
                self._show()
            else:
                self._process.kill()
            self._printed.close()
            with suppress(OSError):  # it has ended
                self._server.shutdown(socket.SHUT_WR)

    def _watch(self) -> None:
        with suppress(ConnectionError):  # it was killed
            while answer := self._server.recv(_LONGEST):
                number, code = json.loads(answer)
                self._ends.pop(number).set_result(code)
        code = self._process.wait()
        with self._lock:
            self._code = code
            self._server.close()
            if self._ends:
                self._show()
            for end in self._ends.values():  # of workers that nobody can wait for any more
                end.set_result(code)

    def _show(self) -> None:
        """Pass on what the server has printed, once."""
        if not self._printed.closed:
            descriptor = self._printed.fileno()
            os.write(2, os.pread(descriptor, _LONGEST, 0))
            os.ftruncate(descriptor, 0)


def _serve(server: socket.socket) -> Mapping[str, str] | None:
    """Returns in every worker, with its variables; and in the server None, when there will be none any more."""
    # whoever asks all of us to stop means the workers
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored there is nothing to wait for
    sys.stdout.flush()  # or every worker says again what imports have said
    workers: dict[int, int] = {}
    opened = True
    while opened or workers:
        if select([server] if opened else [], [], [], _LOOK_EVERY if workers else None)[0]:
            message, descriptors, *_ = socket.recv_fds(server, _LONGEST, 2)
            opened = bool(message)
            if opened:
                variables, printed = descriptors
                process = os.fork()
                if not process:
                    server.close()
                    for each, handler in handlers.items():
                        signal.signal(each, handler)
                    for output in (1, 2):
                        os.dup2(printed, output)
                    os.close(printed)
                    with os.fdopen(variables, "rb") as file:
                        file.seek(0)
                        return dict(json.load(file))
                for descriptor in descriptors:
                    os.close(descriptor)
                workers[process] = int(message)
        while workers and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with suppress(ConnectionError):  # who has started this may be gone
                server.send(json.dumps([workers.pop(ended[0]), os.waitstatus_to_exitcode(ended[1])]).encode())
    return None


def main(server: int, module: str, *libraries: str) -> None:
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
    environment = _serve(socket.socket(fileno=server))
    if environment is not None:
        os.environ.update(environment)
        if "numpy.random" in sys.modules:  # Python's own generator does so by itself
            sys.modules["numpy.random"].seed()
        import_module(module).main([])
    done = True


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
