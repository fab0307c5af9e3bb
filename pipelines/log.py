"""Log lines for people, or JSON for schedulers."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _ToStandardError(logging.StreamHandler):
    """Follows ``sys.stderr`` when it is replaced."""

    @property
    def stream(self):  # type: ignore[override]
        return sys.stderr

    @stream.setter
    def stream(self, _: object) -> None:
        pass


def set_up_logging(form: Literal["text", "json"]) -> None:
    """Send our lines to standard error; other libraries only from warnings up."""
    handler = _ToStandardError()
    handler.setFormatter(_JsonFormatter() if form == "json" else logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: "apitools not found" not in record.getMessage())  # Beam, of an optional cloud
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("curricle").setLevel(logging.INFO)
    # what Beam's workers say of their own start; a job that fails carries its worker's traceback anyway
    logging.getLogger("apache_beam.runners.portability").setLevel(logging.CRITICAL)


@contextmanager
def output_of_children(path: Path) -> Iterator[None]:
    """Send what child processes print to a file, and keep the terminal for our own lines.

    Beam's worker processes write dozens of lines each as they start, and have no option against it.
    """
    ours = {1: os.dup(1), 2: os.dup(2)}
    streams = sys.stdout, sys.stderr
    for stream in streams:
        stream.flush()
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(ours[number]), "w", buffering=1) for number in (1, 2))
    try:
        yield
    finally:
        for number, descriptor in ours.items():
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout.close()
        sys.stderr.close()
        sys.stdout, sys.stderr = streams
