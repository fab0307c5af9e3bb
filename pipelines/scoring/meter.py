"""What workers count while they work."""

import json
import math
import os
import socket
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from curricle.curate.proxy.devices import claimed
from curricle.pipelines.tables.directory import LIVE, OutputDirectory
from curricle.schemas.common.errors import UserError

GPUS = "gpus"
"""Beside the counts: what the process has claimed."""

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
            mine = claimed()
            counts = {**counter, **({GPUS: ",".join(mine.gpus)} if mine else {})}
            with suppress(UserError):
                storage.write(name, json.dumps(counts).encode(), durable=False)
