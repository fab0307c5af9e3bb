"""Live progress: workers keep counters in small files, the driver adds them up and shows them.

Beam's local runner reports nothing before the end (its progress callback is never wired), so the counters go
by the file system, which works the same in one process and in many.
"""

import json
import logging
import os
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

log = logging.getLogger("curricle")

WRITE_EVERY = 0.5
LINE_EVERY = 30.0

_counters: dict[Path, Counter[str]] = {}
_written: dict[Path, float] = {}


@dataclass(frozen=True)
class Meter:
    """A worker's counters, written to its own file below ``folder``."""

    folder: Path

    def add(self, *, rows: int = 0, rejects: int = 0, tokens: int = 0, in_hand: float = 0.0) -> None:
        """Count finished rows, rejects among them, and tokens that went through the proxy.

        ``in_hand`` is how many rows of the shard at work are behind us, by their share of its tokens.
        """
        counter = self._counter()
        counter.update(rows=rows, rejects=rejects, tokens=tokens)
        counter["in_hand"] = int(in_hand)
        self._write(at_once=rows > 0)

    @property
    def _path(self) -> Path:
        return self.folder / f"{socket.gethostname()}-{os.getpid()}.json"

    def _counter(self) -> Counter[str]:
        return _counters.setdefault(self._path, Counter())

    def _write(self, at_once: bool) -> None:
        path, now = self._path, time.monotonic()
        if not at_once and now - _written.get(path, 0.0) < WRITE_EVERY:
            return
        _written[path] = now
        # No flush to disk: this is for the eye, and a lost count changes nothing.
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(self._counter()), "utf-8")
        beside.replace(path)


def total(folder: Path) -> Counter[str]:
    """The sum of all workers' counters."""
    counts: Counter[str] = Counter()
    for path in folder.glob("*.json"):
        counts.update(json.loads(path.read_text("utf-8")))
    return counts


class Progress:
    """Shows a job's progress while it runs: a bar on a terminal, a log line now and then elsewhere."""

    def __init__(self, folder: Path, records: int, already: int) -> None:
        self.folder, self.records, self.already = folder, records, already
        self.started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        if not sys.stderr.isatty():
            while not self._stop.wait(LINE_EVERY):
                log.info(self.line())
            return
        with tqdm(total=self.records, initial=self.already, unit="row", smoothing=0.1) as bar:
            while not self._stop.wait(WRITE_EVERY):
                self._show(bar)
            self._show(bar)

    def _show(self, bar: tqdm) -> None:
        counts = total(self.folder)
        bar.set_postfix_str(self._detail(counts), refresh=False)
        bar.update(self.already + counts["rows"] + counts["in_hand"] - bar.n)

    def _detail(self, counts: Counter[str]) -> str:
        rejects = f"{counts['rejects']:,} rejects"
        if not counts["tokens"]:
            return rejects
        return f"{counts['tokens'] / (time.monotonic() - self.started):,.0f} tokens/s, {rejects}"

    def line(self) -> str:
        """Progress as one line of text."""
        counts = total(self.folder)
        done = counts["rows"] + counts["in_hand"]
        left = self.records - self.already - done
        until = f", about {left * (time.monotonic() - self.started) / done / 60:.0f} min left" if done and left else ""
        return f"{self.already + done:,} of {self.records:,} rows, {self._detail(counts)}{until}"
