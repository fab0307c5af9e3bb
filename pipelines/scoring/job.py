"""What a job is: names resolved to metrics, a format and weights, and the identity of its scores."""

import json
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
from curricle.curate.embedding.weights import find, parameters
from curricle.curate.formats import VERSION as FORMATS_VERSION
from curricle.curate.formats import Format, named
from curricle.curate.metric import Metric, Needs
from curricle.curate.metrics import identities, select
from curricle.curate.proxy.weights import Weights, resolve
from curricle.curate.readers import Reader, kind_of, named_readers
from curricle.curate.readers.inputs import InputFile
from curricle.pipelines.settings.score import ScoreSettings
from curricle.schemas.contract import FIRST
from curricle.schemas.fingerprint import canonical_json, digest
from curricle.schemas.table import table_schema


@dataclass(frozen=True)
class Job:
    """What to compute, on what, and with which models: everything that workers are told.

    ``later`` are the checkpoints after ``weights`` that the metric lp compares.
    ``cwd`` and ``host`` are the driver's: there the names of files and the weights are what the user meant.
    """

    settings: ScoreSettings
    metrics: tuple[Metric, ...]
    weights: Weights | None
    later: tuple[Weights, ...]
    encoder: Weights | None
    format: Format | None
    readers: tuple[Reader, ...]
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
    def generates(self) -> bool:
        return _generates(self.metrics)

    @property
    def schema(self) -> pa.Schema:
        columns = [column for metric in self.metrics for column in metric.signed_columns]
        return table_schema(columns, self.fingerprint)

    def reading(self, files: Iterable[InputFile]) -> dict[str, Any]:
        """What decides what a record of these files becomes, beside the scores' identity."""
        settings = self.settings
        readers = {kind_of(file.name, self.readers).reader for file in files}
        plugins = {reader.name: reader.origin.identity for reader in readers if reader.origin}
        return {
            "formats_version": FORMATS_VERSION,
            "format": self.format.identity if self.format and self.format.origin else settings.format,
            "prompt_field": settings.prompt_field,
            "response_field": settings.response_field,
            "max_record_bytes": settings.max_record_bytes,
            **({"readers": plugins} if plugins else {}),
        }


def _needs(metrics: Sequence[Metric]) -> Needs:
    return max(metric.needs for metric in metrics)


def _generates(metrics: Sequence[Metric]) -> bool:
    return any(metric.generates for metric in metrics)


def make_job(settings: ScoreSettings) -> Job:
    """Resolve names to things: metrics, format, proxy weights. Errors here cost nothing yet."""
    names = settings.proxy.checkpoints
    made = {"lp": {"checkpoints": len(names), "compat": settings.compat}} if names else {}
    encoder = None
    if "embedding" in settings.metrics:
        encoder = find(settings.encoder)
        made["embedding"] = parameters(encoder, settings.embedding)
    metrics = tuple(select(settings.metrics, made, settings.proxy.rendering))
    format = named(settings.format, settings.prompt_field, settings.response_field)
    readers = named_readers(settings.readers)
    identity: dict[str, Any] = {"contract": FIRST.version, "metrics": identities(metrics)}
    needs = _needs(metrics)
    weights, later = None, []
    if needs >= Needs.TOKENS:
        from curricle.curate.proxy.rendering import Renderer

        proxies = [replace(settings.proxy, model=name) for name in names] or [settings.proxy]
        settings = replace(settings, proxy=proxies[0])
        weights, *later = [resolve(proxy.model) for proxy in proxies]
        renderer, *others = map(Renderer, [weights, *later], proxies)
        for other in others:
            renderer.check_same_model(other)
        identity["rendering"] = renderer.identity()
    generates = _generates(metrics)
    if (needs >= Needs.LOSS or generates) and weights is not None:
        identity["proxy"] = {
            "weights": weights.identity,
            "dtype": settings.proxy.dtype,
            "backend": settings.proxy.backend,
        }
    if later:
        identity["proxy"]["checkpoints"] = [checkpoint.identity for checkpoint in later]
    if encoder:
        identity["encoder"] = {"weights": encoder.identity}
    if generates:
        identity["generation"] = asdict(settings.proxy.generation)
    identity = json.loads(canonical_json(identity))
    return Job(
        settings, metrics, weights, tuple(later), encoder, format, readers, identity, os.getcwd(), socket.gethostname()
    )
