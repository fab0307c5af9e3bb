"""Errors that come back from a worker."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from curricle.schemas.common import stop
from curricle.schemas.common.errors import DirectoryLocked, UserError

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
