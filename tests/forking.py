"""Commands as processes of their own that skip the seconds of imports: forked from a process that has imported all.

``Command`` is a ``subprocess.Popen``. It takes ``[python, "-P", "-m", "curricle.pipelines.cli", …]``, or the trainer's
module, or ``-c`` and code, and starts a real process, with a pid, a working directory, an environment, standard
streams, signals and an exit code of its own, whose parent is the caller. A trainer that such a command starts is forked
as well, and so is a run of a comparison, by a process that was forked from it before it began; workers, and processes
that train one run together, are started as ever.

The same as in a fresh interpreter: the command's module runs as ``__main__``, Ctrl-C and other signals do what they do,
no thread has run yet, and at the end of the process what is registered for it is called in the same order.

Not the same: what the command imports is there already, so nothing shows of when it imports what, and at the end it is
not taken apart; the seed of ``hash``, and whatever else is drawn as something is imported, is one for all commands that
a test process forks; and an environment variable that is read then was read before. So whoever asks for an environment
that differs in any variable but those of ``LATE`` and ``OURS``, for a terminal, or for options of ``Popen`` that change
the child before it begins, gets a fresh interpreter. Tests of how a command begins ask ``subprocess`` for one.
"""

import atexit
import ctypes
import gc
import importlib
import io
import json
import logging
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

MODULES = ("curricle.pipelines.cli", "curricle.train.cli")
TRAINING = (
    *(["curricle.pipelines.cli", name] for name in ("lp", "reward", "run")),
    ["curricle.train.cli", "compare"],
)
"""Commands that start a trainer, in one of the modules ``TRAINERS``."""
TRAINERS = ("curricle.pipelines.processes.trainer", "curricle.train.comparison.runs")
SAFE = "PYTHONSAFEPATH"
"""As an environment says what the option ``-P`` says."""
LATE = ("AWS_", "CURRICLE_", "MODEL", "PYTEST_")
"""How the names begin of variables that are read when they are used, and not when something is imported."""
OURS = ("KMP_", SAFE, "PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_CACHE_DIR", "_RJEM_MALLOC_CONF")
"""What torch, commands of ours and polars set in every process: the warm one has begun without it."""
LIBRARIES = ("lexicalrichness", "matplotlib.pyplot", "transformers.models.llama.modeling_llama")
"""What commands import in the middle of their work, beside what our modules import as they are imported."""
PAGES = ("curricle.curate.report", "curricle.pipelines.view", "curricle.train.comparison", "curricle.train.reporting")
"""Packages with templates, which are compiled once in a process."""

_STREAMS = {"p2cread": 0, "p2cwrite": None, "c2pread": None, "c2pwrite": 1, "errread": None, "errwrite": 2}
"""As Popen names both ends of its pipes, and the descriptors that a child inherits instead of its own ends."""
_OPTIONS = {"stdin", "stdout", "stderr", "text", "cwd", "env", "start_new_session", "pass_fds"}
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of prctl


class Command(subprocess.Popen):
    """A command in a process of its own, forked from a warm one where that is the same."""

    def __init__(self, arguments: Sequence[str], **options: Any) -> None:
        self._options = options
        super().__init__(arguments, **options)

    def _execute_child(self, args: Sequence[str], *others: Any) -> None:  # type: ignore[override]
        # What Popen itself leaves to this method is to start the process; pipes, and waiting, are as ever.
        ends = dict(zip(_STREAMS, others[9:15], strict=True))
        streams = [usual if ends[name] == -1 else ends[name] for name, usual in _STREAMS.items() if usual is not None]
        environment = dict(os.environ if self._options.get("env") is None else self._options["env"])
        if not _same_when_forked(args, self._options, environment, streams):
            return super()._execute_child(args, *others)  # type: ignore[misc]
        passed = list(self._options.get("pass_fds", ()))
        option, *arguments = _without_safe_path(args, environment)
        command = {
            "option": option,
            "arguments": [os.fspath(argument) for argument in arguments],
            "passed": passed,
            "cwd": os.fspath(self._options.get("cwd") or os.getcwd()),
            "environment": environment,
            "session": bool(self._options.get("start_new_session")),
            "parent": os.getpid(),
            "nested": _server().process is None,
        }
        self.pid = _server().start(command, [*streams, *passed])
        self._child_created = True
        self._close_pipe_fds(*ends.values())  # type: ignore[attr-defined]


def run(arguments: Sequence[str], timeout: float | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """``subprocess.run`` of a command, with both its streams captured as text."""
    with Command(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def _same_when_forked(
    args: Sequence[str], options: Mapping[str, Any], environment: Mapping[str, str], streams: Sequence[int]
) -> bool:
    return (
        sys.platform == "linux"
        and args[0] == sys.executable
        and bool(rest := _without_safe_path(args, environment))
        and (rest[0] == "-c" or (rest[0] == "-m" and rest[1] in MODULES))
        and options.keys() <= _OPTIONS
        and not any(map(os.isatty, streams))
        and _early(environment) == _server().environment
    )


def _without_safe_path(args: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
    """What follows the interpreter and its ``-P``; nothing where a command begins without."""
    if args[1:2] == ["-P"]:
        return args[2:]
    return args[1:] if environment.get(SAFE) else ()


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith((*LATE, *OURS))}


class _Server:
    """The warm process, as its parent sees it: an interpreter of its own, or forked from a command."""

    def __init__(self, connection: socket.socket, environment: Mapping[str, str], process: Any = None) -> None:
        self.socket, self.environment, self.process = connection, _early(environment), process
        # a process that the server forks, and that forks the command and ends, leaves its child to us
        _prctl(_SET_CHILD_SUBREAPER, 1)

    def start(self, command: Mapping[str, Any], streams: Sequence[int]) -> int:
        socket.send_fds(self.socket, [json.dumps(command).encode()], streams)
        answer = self.socket.recv(64)
        if not answer:
            raise RuntimeError("the process that forks commands has ended")
        return int(answer)


environment: Mapping[str, str] = os.environ
"""What the warm process begins with, and so what commands must be started with that it is to fork."""
_current: _Server | None = None


def _server() -> _Server:
    """The one of this process, which is started when it is asked for the first time."""
    global _current
    if _current is None:
        ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(other.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
            pass_fds=[other.fileno()],
        )
        other.close()
        _current = _Server(ours, environment, process)
    return _current


def end() -> None:
    """End the warm process, if there is one."""
    global _current
    if _current is not None:
        _current.socket.close()
        _current.process.wait()
        _current = None


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _serve(number: int) -> None:
    """Import everything, and fork commands until nobody asks any more."""
    end = _End()
    atexit.register(end)
    logging.root.addHandler(logging.NullHandler())  # a warning while there is none would make one
    _import_all()
    logging.root.handlers.clear()
    for trainer in TRAINERS:
        importlib.import_module(trainer).subprocess = SimpleNamespace(  # type: ignore[attr-defined]
            **{**vars(subprocess), "Popen": Command}
        )
    gc.collect()  # now, and not in each command, which would copy all that is imported: half a second
    _fork_at(socket.socket(fileno=number), end)


def _fork_at(connection: socket.socket, end: "_End") -> NoReturn:
    """Fork commands until nobody asks any more; each of them runs to its end here."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is meant for commands
    with connection:
        while True:
            line, streams, *_ = socket.recv_fds(connection, 1 << 20, 8)
            if not line:
                os._exit(0)
            receiver, tell = os.pipe()
            between = os.fork()
            if not between:
                if pid := os.fork():
                    os.write(tell, str(pid).encode())
                    os._exit(0)
                break
            os.waitpid(between, 0)
            for descriptor in (tell, *streams):
                os.close(descriptor)
            with open(receiver) as answer:  # to its end: until the child is what it is to be
                connection.send(answer.read().encode())
    os.close(receiver)
    command = json.loads(line)
    _become(command, streams)
    if command["arguments"][:2] in TRAINING:
        _fork_what_it_starts(tell, end)
    os.close(tell)
    for number, descriptor in zip(command["passed"], streams[3:], strict=True):
        if number != descriptor:
            os.dup2(descriptor, number, inheritable=True)
            os.close(descriptor)
    _run(command, end)


def _fork_what_it_starts(tell: int, end: "_End") -> None:
    """Fork a process that forks this one's children, as long as no thread has run."""
    global _current
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _current = _Server(ours, os.environ)
    parent = os.getpid()
    if not os.fork():
        os.close(tell)
        ours.close()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):  # whoever reads what the command writes reads until it is closed
            os.dup2(nowhere, stream)
        os.close(nowhere)
        if os.getppid() == parent:
            _fork_at(other, end)
        os._exit(0)
    other.close()


def _import_all() -> None:
    """All modules of ours but the commands, which a process runs, with what they import; and what is compiled once."""
    for package in ("curricle.schemas", "curricle.curate", "curricle.pipelines", "curricle.train"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if module.name not in MODULES:
                importlib.import_module(module.name)
    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("curricle.curate.metrics.mtld").mtld(["numba loads what it compiled once"])
    for package in PAGES:
        templates = importlib.import_module("curricle.schemas.pages.page").environment(package)
        for name in templates.list_templates(["j2"]):
            templates.get_template(name)
    drawing = importlib.import_module("curricle.schemas.pages.svg")
    drawing.picture(lambda axes: None, ["line"], {}, (1, 1), "", "")  # matplotlib looks for fonts


class _End:
    """What a process does last of all, because it is registered first."""

    def __init__(self) -> None:
        self.code = 1  # of an error that nobody has caught
        self.of_the_command: list[Callable[[], object]] = []

    def __call__(self) -> None:
        for function in reversed(self.of_the_command):
            function()
        logging.shutdown()
        sys.stdout.flush()
        os._exit(self.code)


def _become(command: Mapping[str, Any], streams: Sequence[int]) -> None:
    while os.getppid() != command["parent"]:
        os.sched_yield()
    # what a command starts outlives it, until it notices
    _prctl(_SET_PDEATHSIG, 0 if command["nested"] else signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if command["session"]:
        os.setsid()
    for number, stream in enumerate(streams[:3]):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), sys.stdin.encoding)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = _writer(sys.stdout), _writer(sys.stderr)
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["environment"])
    importlib.import_module("numpy.random").seed()


def _run(command: Mapping[str, Any], end: _End) -> NoReturn:
    # what the command's own module registers comes first in a fresh interpreter, and so is called last
    register = atexit.register

    def registered(function: Any, *arguments: Any, **options: Any) -> Any:
        if getattr(function, "__module__", "") != "__main__":
            return register(function, *arguments, **options)
        end.of_the_command.append(lambda: function(*arguments, **options))
        return function

    atexit.register = registered  # type: ignore[assignment]
    what, *sys.argv[1:] = command["arguments"]
    try:
        if command["option"] == "-c":
            sys.argv[0] = "-c"
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(what, main.__dict__)
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        sys.exit()
    except SystemExit as ended:
        end.code = ended.code if isinstance(ended.code, int) else bool(ended.code)
        raise


def _writer(old: Any) -> io.TextIOWrapper:
    """A stream as the interpreter made the old one, to what its descriptor leads to now."""
    raw = io.FileIO(old.fileno(), "w", closefd=False)
    buffer: Any = raw if old.write_through else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, old.encoding, old.errors, "\n", old.line_buffering, old.write_through)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
