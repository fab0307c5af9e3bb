"""What a job is: what to compute, on what, and how it is read."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from curricle.curate.formats import VERSION as FORMATS_VERSION
from curricle.curate.formats import Format, ReadingRules, named
from curricle.curate.proxy import devices
from curricle.curate.readers import Reader, kind_of, named_readers
from curricle.curate.readers.inputs import InputFile
from curricle.curate.reading import reading_identity
from curricle.curate.scoring import Scoring
from curricle.pipelines.processes.cores import cores
from curricle.pipelines.scoring.stored import StoredTable
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.tables.provenance import TEXT, commands_alone, provenance
from curricle.schemas.contract import FIRST
from curricle.schemas.fingerprint import differences
from curricle.schemas.identity import as_first, changes
from curricle.schemas.manifest import Manifest, Provenance


@dataclass(frozen=True)
class Job(Scoring):
    """A scoring, and what it is of: everything that workers are told.

    ``readers``: those that a user named, and installed ones that the files need: a worker has to have the same.
    ``cwd`` is the driver's: there the names of files are what the user meant.

    ``earlier``: the table in the output directory, if rows of it stay. ``stored``: where scores are looked up by
    example, the earlier table too.
    """

    settings: ScoreSettings
    format: Format | None
    rules: ReadingRules
    readers: tuple[Reader, ...]
    cwd: str
    earlier: StoredTable | None = None
    stored: tuple[StoredTable, ...] = ()

    @cached_property
    def workers(self) -> int:
        """``--workers``, counted on this machine where it is auto."""
        settings = self.settings
        if settings.workers != "auto":
            return settings.workers
        if self.asks_model:
            return max(1, len(devices.names()) // settings.proxy.tensor_parallel)
        return cores()

    def changes(self, identity: Mapping[str, Any]) -> list[str]:
        """One line for each thing in which the scores of a job with this identity are made otherwise."""
        if identity.get("contract") == FIRST.version:
            return differences(identity, as_first(self.columns))
        return changes(identity, self.identity)

    def origin(self, before: Sequence[Manifest] = (), reused: Sequence[Manifest] = ()) -> Provenance:
        """What the manifest says of how the table came about. ``before``: the tables of which rows stay; ``reused``:
        those whose scores are copied, with the commands that made them.
        """
        settings, columns = self.settings, self.columns
        before = [*map(commands_alone, reused), *before]
        libraries = [*TEXT, *self.models.libraries(columns)]
        models = self.models.origins(columns)
        return provenance("score", settings, libraries, models, before, settings.license, settings.language)

    @property
    def reading(self) -> dict[str, Any]:
        """What decides what a record becomes, beside the scores' identity."""
        settings = self.settings
        return {
            "formats_version": FORMATS_VERSION,
            "format": self.read_by.get("format", settings.format),
            "prompt_field": settings.prompt_field,
            "response_field": settings.response_field,
            "max_record_bytes": settings.max_record_bytes,
            **({"columns": [*settings.columns]} if settings.columns else {}),
            **self.rules.chosen,
        }


def make_job(settings: ScoreSettings, files: Iterable[InputFile] = (), there: Sequence[str] = ()) -> Job:
    """Resolve names to things: metrics, format, readers of these files, weights. Errors here cost nothing yet.

    ``there``: the metrics of the table in the output directory, which ``--metrics +NAME`` adds to.
    """
    format = named(settings.format, settings.prompt_field, settings.response_field)
    readers = named_readers(settings.readers, settings.columns)
    used = {kind_of(file.name, readers).reader for file in files}
    rules = ReadingRules(settings.media, settings.bad_answers, settings.replies)
    read_by = reading_identity(format, used, rules)
    readers += tuple(reader for reader in used if reader.origin and reader not in readers)
    scoring = Scoring.of(settings.all_metrics(there), settings.proxy, settings.embedding, settings.compat, read_by)
    settings = replace(settings, proxy=scoring.models.proxy)
    job = Job(
        scoring.references, scoring.models, scoring.columns, read_by, settings, format, rules, readers, os.getcwd()
    )
    if settings.proxy.tensor_parallel > 1 and "proxy" in job.roles:
        job.models.check_heads()
    return job
