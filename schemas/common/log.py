"""Log lines for people, or JSON for schedulers."""

import json
import logging
import sys
import time
from typing import Literal, TextIO

from curricle.schemas.common.secrets import redacted


def printable(line: str) -> str:
    """The line with what is no plain character spelt out: a name or a text may hold what a terminal obeys."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, redacted(super().format(record)).split("\n")))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "message": redacted(record.getMessage()),
        }
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


def set_up_logging(form: Literal["text", "json"], ours: int = logging.INFO) -> None:
    """Send our lines to standard error from level ``ours`` up, other libraries' only from warnings up."""
    handler = _ToStandardError()
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("curricle").setLevel(ours)
