"""A job's figures for Prometheus, as a file for the textfile collector of its node exporter: a batch job has no port
that could be scraped.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from curricle.schemas.common.disk import write_whole
from curricle.schemas.common.errors import UserError
from curricle.schemas.common.secrets import redacted

if TYPE_CHECKING:
    from curricle.pipelines.scoring.snapshot import Standing

FIGURES = {
    "curricle_records": "records that the job has to account for",
    "curricle_records_done": "records in shards that are finished, and of the shard at work",
    "curricle_records_rejected": "records rejected in this run",
    "curricle_proxy_tokens": "tokens that went through the proxy in this run",
    "curricle_run_seconds": "how long this run has taken",
    "curricle_seen_timestamp_seconds": "when these figures were written",
}


def write_textfile(path: Path, output: str, now: "Standing", seconds: float) -> None:
    """Replace the file by the figures as they are after so many seconds; UserError if it cannot be written."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    values = (now.records, now.done, now.rejects, now.tokens, seconds, time.time())
    for (name, help), value in zip(FIGURES.items(), values, strict=True):
        Gauge(name, help, ["output"], registry=registry).labels(redacted(output)).set(value)
    try:
        write_whole(path.resolve(), generate_latest(registry))
    except OSError as error:
        raise UserError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="give another --prometheus-file"
        ) from error
