"""Log lines for people, or JSON for schedulers."""

import json
import logging
import sys
import time
from typing import Any, Literal, TextIO

from curricle.schemas.common import stop
from curricle.schemas.common.secrets import redacted


def printable(line: str) -> str:
    """The line with what is no plain character spelt out: a name or a text may hold what a terminal obeys."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def duration(seconds: float) -> str:
    """Roughly, for a person."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, redacted(super().format(record)).split("\n")))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "message": redacted(record.getMessage()),
        }
        line |= getattr(record, "figures", {})
        if record.exc_info:
            line["error"] = redacted(self.formatException(record.exc_info))
        # JSON escapes the oldest control characters alone; terminals obey others too, and some readers end a line there
        plain = json.dumps(line, ensure_ascii=False)
        return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in plain)


class _ToStandardError(logging.StreamHandler[TextIO]):
    """Follows ``sys.stderr`` when it is replaced."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: object) -> None:
        pass


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Asked to stop, libraries say how they were interrupted."""
    return record.name == "curricle" or not stop.requested.is_set()


def set_up_logging(form: Literal["text", "json"], ours: int = logging.INFO) -> None:
    """Send our lines to standard error from level ``ours`` up, other libraries' only from warnings up."""
    handler = _ToStandardError()
    handler.addFilter(_worth_a_line)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("curricle").setLevel(ours)
