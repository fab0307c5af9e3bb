"""Live progress: workers keep counters in small files, the driver adds them up and shows them.

Beam's local runner reports nothing before the end (its progress callback is never wired), and a portable one nothing
live, so the counters go by way of the output directory, which works the same in one process and on many machines.
"""

import logging
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from curricle.pipelines.scoring.prometheus import write_textfile
from curricle.pipelines.scoring.snapshot import FIGURES, Pace, Standing, standing
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.phase import publish
from curricle.schemas.common.errors import UserError
from tqdm import tqdm

log = logging.getLogger("curricle")

LINE_EVERY = 30.0


class JobProgress:
    """Follows a job while it runs: a bar on a terminal, a log line now and then elsewhere, and a file for Prometheus.

    ``check`` raises UserError when no worker has counted anything for ``--stall-limit`` seconds.
    """

    def __init__(
        self, directory: OutputDirectory, run: str, records: int, already: int, settings: ScoreSettings, phase: str
    ) -> None:
        """``phase``: what workers do before the first row."""
        self.phase, self._pace = phase, Pace()
        self.directory, self.run, self.records, self.already = directory, run, records, already
        self.stall_limit, prometheus = settings.stall_limit, settings.prometheus_file
        self.prometheus = Path(prometheus) if prometheus else None
        self.started = self._moved = time.monotonic()
        self._last: Standing | None = None
        self._at_work: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "JobProgress":
        self._look()  # what cannot be written shows before any work is done
        log.info("%s", self.phase, extra={"figures": {"phase": self.phase}})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        if (idle := time.monotonic() - self._moved) > self.stall_limit:
            raise UserError(
                f"no worker has done anything for {idle:.0f} s",
                where=self.directory.path,
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
                    log.info("%s", now.line(), extra={"figures": now.figures()})

    def _look(self) -> Standing:
        now = self._pace.see(
            time.monotonic(), standing(self.directory, self.run, self.records, self.already, self.phase)
        )
        if self._last is None or (now.rows, now.tokens) != (self._last.rows, self._last.tokens):
            self._moved = time.monotonic()
        self._last = now
        for worker in sorted(now.gpus.keys() - self._at_work):
            log.info("worker %s has the GPU %s", worker, now.gpus[worker])
            self._at_work.add(worker)
        if self.prometheus:
            write_textfile(self.prometheus, self.directory.path, now, time.monotonic() - self.started)
        with suppress(UserError):  # for the eye alone
            publish(self.directory, self.run, **{name: getattr(now, name) for name in FIGURES})
        return now
