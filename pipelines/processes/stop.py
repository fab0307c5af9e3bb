"""A request to stop: SIGTERM, or Ctrl-C."""

import os
import signal
import threading
import time
from functools import cache

requested = threading.Event()
"""Set from the moment that somebody asked."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WAKE = signal.SIGURG  # means nothing to a process that asks for none
_SOON = 0.05


def on_signals() -> None:
    """From now on either signal is a KeyboardInterrupt in the main thread, which abandons the shards at work."""
    requested.clear()
    for number in _SIGNALS:
        signal.signal(number, _stop)
    _wake_the_main_thread()


def _stop(number: int, frame: object) -> None:
    requested.set()
    raise KeyboardInterrupt


@cache
def _wake_the_main_thread() -> None:
    """The kernel may hand a signal to any thread, and Python runs its handler in the main one alone, which would sleep
    on in a lock of Beam's. So whoever gets the signal tells a thread, which wakes the main one by a signal of its own.
    """
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.signal(_WAKE, lambda number, frame: None)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        while number := os.read(receiver, 1):
            if number[0] in _SIGNALS:
                time.sleep(_SOON)  # awake, it needs no more than this
                signal.pthread_kill(main, _WAKE)

    threading.Thread(target=watch, name="signals", daemon=True).start()
