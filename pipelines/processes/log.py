"""Keep what Beam and its worker processes print away from our own lines."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def quieten_beam() -> None:
    """Drop what Beam says of an optional cloud, and of its workers' start: a failure carries its own traceback."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_worth_a_line)
    logging.getLogger("apache_beam.runners").setLevel(logging.CRITICAL)


def _worth_a_line(record: logging.LogRecord) -> bool:
    return "apitools not found" not in record.getMessage()


@contextmanager
def output_of_children(path: Path) -> Iterator[None]:
    """Send what child processes print to a file, and keep the terminal for our own lines.

    Beam's worker processes write dozens of lines each as they start, and have no option against it.
    """
    ours = {1: os.dup(1), 2: os.dup(2)}
    streams = sys.stdout, sys.stderr
    for stream in streams:
        stream.flush()
    # no link is followed: the file may lie where others write
    opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(opened, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (
        os.fdopen(os.dup(ours[number]), "w", 1, stream.encoding, "backslashreplace")
        for number, stream in zip(ours, streams, strict=True)
    )
    try:
        yield
    finally:
        for number, descriptor in ours.items():
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout.close()
        sys.stderr.close()
        sys.stdout, sys.stderr = streams
