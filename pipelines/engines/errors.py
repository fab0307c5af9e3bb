"""Errors that come back from a worker, and an engine that is not there."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from curricle.schemas.common import stop
from curricle.schemas.common.errors import DirectoryLocked, UserError

_KNOCK_SECONDS = 10.0
"""However busy a service is, the system below it takes a connection for it at once."""

_INTERRUPTED = re.compile(r"^KeyboardInterrupt\b(?! *:)", re.MULTILINE)


@contextmanager
def saying_why() -> Iterator[None]:
    """Raise what a UserError said in a worker as one: runners hand on its traceback as text, and not the error.

    So they do with Ctrl-C that falls into a metric in this process: it is KeyboardInterrupt all the same, also in a
    notebook, where no handler of ours is.
    """
    try:
        yield
    except UserError as error:  # from this process, with a runner's addition all the same
        raise as_in_driver(error) from error
    except Exception as error:
        if stop.requested.is_set() or _INTERRUPTED.search(str(error)):
            raise KeyboardInterrupt from error
        if readable := user_error(str(error)):
            raise readable from error
        raise


def user_error(traceback: str) -> UserError | None:
    """The last UserError in a traceback, without what a runner adds to it."""
    last = re.search(r".*^[\w.]*(UserError|UsageError|DirectoryLocked): ", traceback, re.MULTILINE | re.DOTALL)
    if last is None:
        return None
    return (DirectoryLocked if last[1] == "DirectoryLocked" else UserError)(_plain(traceback[last.end() :]))


def as_in_driver(error: UserError) -> UserError:
    """The same error where shards may have been written by now: wrong usage it is no more."""
    return (DirectoryLocked if isinstance(error, DirectoryLocked) else UserError)(_plain(str(error)))


def _plain(text: str) -> str:
    return re.split(r" \[while running |\n\n", text)[0].strip()


def knock(address: str, service: str, remedy: str) -> None:
    """UserError if nobody listens at HOST:PORT, with a protocol before it or none: libraries try for long."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
    except TimeoutError as error:
        raise UserError(
            f"no {service} answers: no connection within {_KNOCK_SECONDS:.0f} s", where=address, remedy=remedy
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"no {service} answers: {error}, tried once", where=address, remedy=remedy) from error
