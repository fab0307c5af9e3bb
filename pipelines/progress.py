"""Live progress: workers keep counters in small files, the driver adds them up and shows them.

Beam's local runner reports nothing before the end (its progress callback is never wired), and a portable one nothing
live, so the counters go by way of the output directory, which works the same in one process and on many machines.
"""

import json
import logging
import math
import os
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from pipelines.directory import LIVE, OutputDirectory
from pipelines.prometheus import write_textfile
from pipelines.settings import ScoreSettings
from schemas.errors import UserError

log = logging.getLogger("curricle")

LINE_EVERY = 30.0

_counters: dict[str, Counter[str]] = {}
_written: dict[str, float] = {}


@dataclass(frozen=True)
class Meter:
    """This process's counters in one run, written to a file of their own."""

    directory: OutputDirectory
    run: str

    def add(self, *, rows: int = 0, rejects: int = 0, tokens: int = 0, in_hand: float = 0.0) -> None:
        """Count finished rows, rejects among them, and tokens that went through the proxy.

        ``in_hand`` is how many rows of the shard at work are behind us, by their share of its tokens.
        """
        name = f"{LIVE}/{socket.gethostname()}-{os.getpid()}-{self.run}.json"
        counter = _counters.setdefault(name, Counter())
        counter.update(rows=rows, rejects=rejects, tokens=tokens)
        counter["in_hand"] = int(in_hand)
        storage, now = self.directory.storage, time.monotonic()
        if rows or now - _written.get(name, -math.inf) >= storage.interval:
            _written[name] = now
            # Not flushed to disk: this is for the eye, and a lost count changes nothing.
            with suppress(UserError):
                storage.write(name, json.dumps(counter).encode(), durable=False)


@dataclass(frozen=True)
class Standing:
    """How far a job has come. ``rows`` and ``tokens`` are those of this run, ``already`` of the runs before it."""

    records: int
    already: int
    rows: int
    rejects: int
    tokens: int
    seconds: float

    @property
    def done(self) -> int:
        return self.already + self.rows

    @property
    def seconds_left(self) -> float | None:
        """At the rate of this run so far; None before there is one."""
        return (self.records - self.done) * self.seconds / self.rows if self.rows else None

    def line(self) -> str:
        """The same as one line of text."""
        line = f"{self.done:,} of {self.records:,} rows, {self.detail()}"
        if self.seconds_left:
            line += f", about {self.seconds_left / 60:.0f} min left"
        return line

    def detail(self) -> str:
        of, amount = ("tokens", self.tokens) if self.tokens else ("rows", self.rows)
        return f"{amount / max(self.seconds, 1e-9):,.0f} {of}/s, {self.rejects:,} rejects"


def standing(directory: OutputDirectory, run: str, records: int, already: int, seconds: float) -> Standing:
    """What the workers of a run have counted by now. Those of a run that was killed may still be counting too."""
    counts: Counter[str] = Counter()
    for name in directory.storage.names(LIVE):
        if not name.endswith(f"-{run}.json"):
            continue
        with suppress(FileNotFoundError, ValueError, TypeError, AttributeError):  # swept away, or damaged
            counts.update(Counter({key: int(value) for key, value in json.loads(directory.storage.read(name)).items()}))
    rows = min(counts["rows"] + counts["in_hand"], records - already)
    return Standing(records, already, rows, counts["rejects"], counts["tokens"], seconds)


class Progress:
    """Follows a job while it runs: a bar on a terminal, a log line now and then elsewhere, and a file for Prometheus.

    ``check`` raises UserError when no worker has counted anything for ``--stall-limit`` seconds.
    """

    def __init__(
        self, directory: OutputDirectory, run: str, records: int, already: int, settings: ScoreSettings
    ) -> None:
        self.directory, self.run, self.records, self.already = directory, run, records, already
        self.stall_limit, prometheus = settings.stall_limit, settings.prometheus_file
        self.prometheus = Path(prometheus) if prometheus else None
        self.started = self._moved = time.monotonic()
        self._last: Standing | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Progress":
        self._look()  # what cannot be written shows before any work is done
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        if (idle := time.monotonic() - self._moved) > self.stall_limit:
            raise UserError(
                f"no worker has done anything for {idle:.0f} s",
                where=self.directory.place,
                remedy="look whether the engine's workers start (their logs say why not); finished shards are kept, "
                "and --stall-limit sets how long to wait",
            )

    def _watch(self) -> None:
        shown, terminal = time.monotonic(), sys.stderr.isatty()
        with tqdm(total=self.records, initial=self.already, unit="row", smoothing=0.1, disable=not terminal) as bar:
            last = False
            while not last:
                last = self._stop.wait(self.directory.storage.interval)
                try:
                    now = self._look()
                except UserError as error:  # looking failed, not the work
                    log.warning("%s", error)
                    self._moved = time.monotonic()
                    continue
                bar.set_postfix_str(now.detail(), refresh=False)
                bar.update(now.done - bar.n)
                if not terminal and time.monotonic() - shown > LINE_EVERY:
                    shown = time.monotonic()
                    log.info(now.line())

    def _look(self) -> Standing:
        now = standing(self.directory, self.run, self.records, self.already, time.monotonic() - self.started)
        if self._last is None or (now.rows, now.tokens) != (self._last.rows, self._last.tokens):
            self._moved = time.monotonic()
        self._last = now
        if self.prometheus:
            write_textfile(self.prometheus, self.directory.place, now)
        return now
