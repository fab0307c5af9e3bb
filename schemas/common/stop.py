"""A request to stop: SIGTERM, or Ctrl-C."""

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

requested = threading.Event()
"""Set from the moment that somebody asked."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WAKE = signal.SIGURG  # means nothing to a process that asks for none
_SOON = 0.05

_GRACE = 5.0

_swallowed = threading.Event()
_answers: list[Callable[[], bool]] = []
_overdue: list[Callable[[], None]] = []


@contextmanager
def on_signals() -> Iterator[None]:
    """In the block the first signal is a KeyboardInterrupt in the main thread, and further ones change nothing.

    What libraries print of their own interruption from then on is dropped: it falls where it likes, also into an import
    or a destructor, and what Python swallows there is raised again. Outside of the main thread, where no handler can be
    set, signals do what they did before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    requested.clear()
    _swallowed.clear()
    _overdue.clear()
    hooks = threading.excepthook, sys.unraisablehook
    before = {number: signal.signal(number, _stop) for number in _SIGNALS}
    before[_WAKE] = signal.signal(_WAKE, _again)
    _wake_the_main_thread()
    threading.excepthook = partial(_unless_requested, hooks[0])
    sys.unraisablehook = partial(_unraisable, hooks[1])
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        threading.excepthook, sys.unraisablehook = hooks


@contextmanager
def answered_by(answer: Callable[[], bool]) -> Iterator[None]:
    """In the block a signal calls ``answer``, and is no KeyboardInterrupt if that says that it will see to it."""
    _answers.append(answer)
    try:
        yield
    finally:
        _answers.remove(answer)


def finishing(overdue: Callable[[], None]) -> None:
    """What was asked for is there, and moments of work are left, such as its page: a signal is no KeyboardInterrupt.

    A command that was done would say otherwise that it was stopped. ``overdue`` is called in a thread of its own where
    the process is still there some seconds after the signal, and is to end it.
    """
    _overdue[:] = [overdue]


def go_on() -> None:
    """What is finished was one of several things to do. KeyboardInterrupt if somebody asked in the meantime."""
    if _overdue:
        _overdue.clear()
        if requested.is_set():
            raise KeyboardInterrupt


def ignore() -> None:
    """The work is done, or given up, and its exit code known: signals change nothing any more."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: object) -> None:
    first = not requested.is_set()
    requested.set()
    warnings.simplefilter("ignore")
    if _overdue:
        if first:
            timer = threading.Timer(_GRACE, _end_if_finishing)
            timer.daemon = True
            timer.start()
        return
    if not (_answers and _answers[-1]()) and first:
        raise KeyboardInterrupt


def _end_if_finishing() -> None:
    if _overdue:
        _overdue[0]()


def _again(number: int, frame: object) -> None:
    if _swallowed.is_set():
        _swallowed.clear()
        raise KeyboardInterrupt


def _unless_requested(hook: Callable[[Any], object], failure: Any) -> None:
    if not requested.is_set():
        hook(failure)


def _unraisable(hook: Callable[[Any], object], failure: Any) -> None:
    if not requested.is_set():
        hook(failure)
    elif issubclass(failure.exc_type, KeyboardInterrupt) and not _swallowed.is_set():
        _swallowed.set()
        threading.Timer(_SOON, _wake).start()


def _wake() -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, _WAKE)


@cache
def _wake_the_main_thread() -> None:
    """The kernel may hand a signal to any thread, and Python runs its handler in the main one alone, which would sleep
    on in a lock of Beam's. So whoever gets the signal tells a thread, which wakes the main one by a signal of its own.
    """
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(receiver, 1):
            if number[0] in _SIGNALS:
                time.sleep(_SOON)  # awake, it needs no more than this
                _wake()

    threading.Thread(target=watch, name="signals", daemon=True).start()
