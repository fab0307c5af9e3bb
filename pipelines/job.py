"""What a job is: names resolved to metrics, a format and weights, and the identity of its scores."""

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate.formats import Format, named
from curate.metric import Metric, Needs
from curate.metrics import select
from curate.proxy.weights import Weights, resolve
from pipelines.settings import ScoreSettings
from schemas.fingerprint import canonical_json, digest
from schemas.table import CONTRACT, table_schema


@dataclass(frozen=True)
class Job:
    """What to compute, on what, and with which proxy: everything that workers are told.

    ``cwd`` and ``host`` are the driver's: there the names of files and the weights are what the user meant.
    """

    settings: ScoreSettings
    metrics: tuple[Metric, ...]
    weights: Weights | None
    format: Format | None
    identity: dict[str, Any]
    cwd: str
    host: str

    @property
    def fingerprint(self) -> str:
        return digest(self.identity)

    @property
    def needs(self) -> Needs:
        return _needs(self.metrics)

    @property
    def schema(self) -> pa.Schema:
        columns = [column for metric in self.metrics for column in metric.signed_columns]
        return table_schema(columns, self.fingerprint)

    @property
    def reading(self) -> dict[str, Any]:
        """The options that decide what a record becomes, beside the scores' identity."""
        settings = self.settings
        return {
            "format": settings.format,
            "prompt_field": settings.prompt_field,
            "response_field": settings.response_field,
            "max_record_bytes": settings.max_record_bytes,
        }


def _needs(metrics: Sequence[Metric]) -> Needs:
    return max(metric.needs for metric in metrics)


def make_job(settings: ScoreSettings) -> Job:
    """Resolve names to things: metrics, format, proxy weights. Errors here cost nothing yet."""
    metrics = tuple(select(settings.metrics))
    format = named(settings.format, settings.prompt_field, settings.response_field)
    identity: dict[str, Any] = {
        "contract": CONTRACT,
        "metrics": {metric.name: metric.identity() for metric in metrics},
    }
    needs = _needs(metrics)
    weights = None
    if needs >= Needs.TOKENS:
        from curate.proxy.rendering import Renderer

        weights = resolve(settings.proxy.model)
        identity["rendering"] = Renderer(weights, settings.proxy).identity()
    if needs >= Needs.LOSS and weights is not None:
        identity["proxy"] = {
            "weights": weights.identity,
            "dtype": settings.proxy.dtype,
            "backend": settings.proxy.backend,
        }
    identity = json.loads(canonical_json(identity))
    return Job(settings, metrics, weights, format, identity, os.getcwd(), socket.gethostname())
