"""A request to stop: SIGTERM, or Ctrl-C."""

import signal
import threading

requested = threading.Event()
"""Set from the moment that somebody asked."""


def on_signals() -> None:
    """From now on either signal is a KeyboardInterrupt in the main thread, which abandons the shards at work."""
    requested.clear()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)


def _stop(number: int, frame: object) -> None:
    requested.set()
    raise KeyboardInterrupt
