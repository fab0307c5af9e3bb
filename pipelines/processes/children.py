"""Child processes of a job, and its end in time when somebody asks for it."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
from curricle.schemas.common import stop
from curricle.schemas.common.command import FAILED

log = logging.getLogger("curricle")

GRACE = 5.0
"""Seconds in which a job has to end after it was asked to, before it is ended as a kill would."""


@contextmanager
def ended_on_request(last_words: Callable[[], str]) -> Iterator[None]:
    """A request to stop ends the workers in the block at once, and this process too if it has not left it in time.

    A runner closes by waiting for workers that may have minutes of work in hand, and a library may swallow the
    interruption. Nothing is lost: a shard at work is scored again, however its worker ends. ``last_words`` are logged
    where this process is ended so.
    """
    left = threading.Event()

    def watch() -> None:
        stop.requested.wait()
        if left.is_set():
            return
        end_children()
        if not left.wait(GRACE):
            end_children()
            log.error("%s", last_words())
            logging.shutdown()
            os._exit(FAILED)

    thread = threading.Thread(target=watch, name="stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        if stop.requested.is_set():
            thread.join()


def end_children() -> None:
    """Kill the processes that this one has started, and those that they have."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
