"""What a job is: names resolved to metrics, a format and models, and the identity of its scores."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
from curricle.curate.formats import VERSION as FORMATS_VERSION
from curricle.curate.formats import Format, named
from curricle.curate.metric import Metric, passes_of
from curricle.curate.metrics import MetricReference, load, references, select
from curricle.curate.metrics.lp import METRIC as LP
from curricle.curate.passes import merged
from curricle.curate.passes.models import ROLES, Models, Role
from curricle.curate.readers import Reader, kind_of, named_readers
from curricle.curate.readers.inputs import InputFile
from curricle.pipelines.settings.score import ScoreSettings
from curricle.schemas.contract import FIRST
from curricle.schemas.fingerprint import canonical_json, digest
from curricle.schemas.table import table_schema


@dataclass(frozen=True)
class Job:
    """What to compute, on what, and with which models: everything that workers are told.

    They load ``metrics``, and passes with them, by reference, from their own code.
    ``cwd`` is the driver's: there the names of files are what the user meant.
    """

    settings: ScoreSettings
    references: tuple[MetricReference | Metric, ...]
    models: Models
    format: Format | None
    readers: tuple[Reader, ...]
    identity: dict[str, Any]
    cwd: str

    @property
    def fingerprint(self) -> str:
        return digest(self.identity)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        return load(self.references)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "metrics"}

    @property
    def roles(self) -> list[Role]:
        """The models that are asked anything, in the order in which they are."""
        asked = {each.model for each in passes_of(self.metrics)}
        return [role for role in ROLES if role in asked]

    @property
    def schema(self) -> pa.Schema:
        columns = [column for metric in self.metrics for column in metric.signed_columns(self.models)]
        return table_schema(columns, self.fingerprint)

    @property
    def column_identities(self) -> dict[str, dict[str, Any]]:
        """What decides the numbers of each score column, by its name: see ``Metric.rests_on``."""
        rests_on = [(metric.columns, metric.rests_on(self.models)) for metric in self.metrics]
        return {column.name: identity for columns, identity in rests_on for column in columns}

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


def make_job(settings: ScoreSettings) -> Job:
    """Resolve names to things: metrics, format, weights. Errors here cost nothing yet."""
    models = Models(settings.proxy, settings.embedding)
    names = [*settings.metrics, *([LP.name] if settings.proxy.checkpoints else [])]
    metrics = select(names, models, {LP.name: {"compat": settings.compat}})
    format = named(settings.format, settings.prompt_field, settings.response_field)
    for each in passes_of(metrics):
        each.check(models)
    identity = merged([{"contract": FIRST.version}, *(metric.rests_on(models) for metric in metrics)])
    settings = replace(settings, proxy=models.proxy)
    readers = named_readers(settings.readers)
    identity = json.loads(canonical_json(identity))
    return Job(settings, references(metrics), models, format, readers, identity, os.getcwd())
