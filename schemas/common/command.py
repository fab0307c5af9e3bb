"""What both commands share: exit codes, dispatch, and errors as a person should see them."""

import logging
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import requires, version
from typing import Literal

from curricle.schemas.common import stop
from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import DirectoryLocked, Divergence, UsageError, UserError
from curricle.schemas.common.log import set_up_logging
from curricle.schemas.common.surroundings import forget_output, settle, show, unread

DONE, FAILED, USAGE, TOO_MANY_REJECTS, HELD, DIVERGED, DIFFERENT = 0, 1, 2, 3, 4, 5, 6
State = Literal["done", "running", "stopped", "dead"]
STATES: dict[State, int] = {"done": DONE, "running": 10, "stopped": 11, "dead": 12}
"""The exit codes of `status --json`."""
UNREAD = 141
"""Whoever read our output has gone: what a shell says of a program that a closed pipe ended."""

STAGE = "CURRICLE_STAGE"
"""Set for a command that another one has started, which says for both that somebody asked them to stop."""

log = logging.getLogger("curricle")

Command = Callable[[Sequence[str]], int]


def dispatch(program: str, commands: Mapping[str, Command], arguments: Sequence[str], resumes_from: str) -> int:
    """Run the command that the first argument names, and turn its outcome into an exit code.

    ``resumes_from`` says, after an interruption, where the same command goes on.
    """
    settle()
    set_up_logging("text")
    try:
        try:
            with stop.on_signals():
                return _outcome(program, commands, arguments, resumes_from)
        finally:
            if sys.stdout:
                sys.stdout.flush()  # what cannot be written is known now, and not as the interpreter ends
    except BrokenPipeError:
        forget_output()
        return UNREAD
    except OSError as error:
        forget_output()
        log.error("%s: standard output cannot be written: %s", program, error.strerror)
        return FAILED


def asked_to_stop(words: str, resumes_from: str) -> str:
    """The one line of a stop. ``words``: how far the work has come, where that is known."""
    return f"asked to stop{words and f': {words}'}; the same command goes on from {resumes_from}"


def _described(program: str, commands: Mapping[str, Command]) -> list[str]:
    width = max(8, *map(len, commands))
    lines = [f"  {name:{width}} {(command.__doc__ or '').splitlines()[0]}" for name, command in commands.items()]
    usage = f"usage: {program} COMMAND [--help], {program} help COMMAND, or {program} --version"
    return [usage, "", *lines]


def _extra(program: str, module: str) -> str:
    """The extra of this distribution that brings a module; the command's own if it does, or if none is known to."""
    own = "train" if program == "curricle-train" else "curate"
    name = module.partition(".")[0].replace("_", "-").lower()
    extras = re.findall(
        rf"(?mi)^{re.escape(name)}\b(?!-).*extra == [\"']([\w-]+)", "\n".join(requires("curricle") or ())
    )
    return own if own in extras or not extras else extras[0]


def _outcome(program: str, commands: Mapping[str, Command], arguments: Sequence[str], resumes_from: str) -> int:
    def say(words: str) -> None:
        # with several processes, what the first one says stands for all
        if os.environ.get("RANK", "0") == "0":
            log.error("%s: %s", program, words)

    def stopped(words: str) -> int:
        if STAGE not in os.environ:
            say(asked_to_stop(words, resumes_from))
        return FAILED

    try:
        first, *more = arguments or [""]
        if first == "help" and more:
            return _outcome(program, commands, [more[0], "--help"], resumes_from)
        if first in ("", "-h", "--help", "help"):
            for line in _described(program, commands):
                show(line)
            return DONE if first else USAGE
        if first in ("-V", "--version"):
            show(f"{program} {version('curricle')} (Python {platform.python_version()})")
            return DONE
        if first not in commands:
            raise UsageError(f"unknown command {first!r}", remedy=nearest(first, commands))
        return commands[first](more)
    except UsageError as error:
        say(str(error))
        return USAGE
    except DirectoryLocked as error:
        say(str(error))
        return HELD
    except Divergence as error:
        say(str(error))
        return DIVERGED
    except UserError as error:
        say(str(error))
        return FAILED
    except Exception as error:  # ours: a defect. Logged, and not raised, because lines of the log hide secrets
        if isinstance(error, BrokenPipeError) and unread():
            raise
        if isinstance(error, ModuleNotFoundError) and not (error.name or "curricle").startswith("curricle"):
            extra = f'pip install "curricle[{_extra(program, error.name or "")}]"'
            found = f"the module {error.name!r} is not installed"
            say(str(UsageError(found, remedy=f"{extra}, and what else plug-ins of yours need")))
            return USAGE
        if stop.requested.is_set():  # what an interruption of a library's, or of an import, became
            return stopped("")
        log.exception("%s: this should not have happened; the same command may go on from %s", program, resumes_from)
        return FAILED
    except KeyboardInterrupt as request:
        return stopped(str(request))
