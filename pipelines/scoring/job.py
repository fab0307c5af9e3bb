"""What a job is: what to compute, on what, and how it is read."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from curricle.curate.formats import VERSION as FORMATS_VERSION
from curricle.curate.formats import Format, named
from curricle.curate.readers import Reader, kind_of, named_readers
from curricle.curate.readers.inputs import InputFile
from curricle.curate.scoring import Scoring
from curricle.pipelines.settings.score import ScoreSettings
from curricle.schemas.contract import FIRST
from curricle.schemas.fingerprint import differences
from curricle.schemas.identity import as_first, changes


@dataclass(frozen=True)
class Job(Scoring):
    """A scoring, and what it is of: everything that workers are told.

    ``cwd`` is the driver's: there the names of files are what the user meant.
    """

    settings: ScoreSettings
    format: Format | None
    readers: tuple[Reader, ...]
    cwd: str

    @property
    def read_by(self) -> dict[str, Any]:
        """A format of others counts too: what it makes of a record is up to it."""
        foreign = {"format": self.format.identity} if self.format and self.format.origin else {}
        return {**super().read_by, **foreign}

    def changes(self, identity: Mapping[str, Any]) -> list[str]:
        """One line for each thing in which the scores of a job with this identity are made otherwise."""
        if identity.get("contract") == FIRST.version:
            return differences(identity, as_first(self.columns))
        return changes(identity, self.identity)

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
    scoring = Scoring.of(settings.metrics, settings.proxy, settings.embedding, settings.compat)
    format = named(settings.format, settings.prompt_field, settings.response_field)
    readers = named_readers(settings.readers)
    settings = replace(settings, proxy=scoring.models.proxy)
    return Job(scoring.references, scoring.models, scoring.columns, settings, format, readers, os.getcwd())
