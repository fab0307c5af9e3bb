"""Tables put together: the rows of all of them as one table of the same contract, signed."""

import logging
import time
from collections import Counter
from collections.abc import Sequence

from curricle.pipelines.settings.concat import ConcatSettings
from curricle.pipelines.tables.concatenation import Concatenation, concatenation
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.making import check_output, check_plan, making
from curricle.pipelines.tables.provenance import provenance
from curricle.pipelines.tables.reader import TableReader, table_path
from curricle.pipelines.tables.sign import sign
from curricle.pipelines.tables.writer import write_parts
from curricle.schemas.common.wording import counted
from curricle.schemas.contract import CONTRACT
from curricle.schemas.identity import column_fingerprints, table_fingerprint
from curricle.schemas.manifest import Cost, Counts, Manifest, Source, read_manifest
from curricle.schemas.table import rejects_schema

log = logging.getLogger("curricle")


def concat(settings: ConcatSettings) -> Manifest:
    """Write the table that has the rows of all tables, unless it is there, and return its manifest.

    UsageError where their columns are not made alike, or where a record stands in two of them.
    """
    tables = [TableReader(table_path(path)) for path in settings.tables]
    directory = OutputDirectory(settings.output)
    for table in tables:
        check_output(directory, table, settings.overwrite)
    whole = concatenation(tables, settings.columns)
    check_plan(directory, whole.plan, settings.overwrite)
    for table in tables:
        table.check_bytes()
    whole.check_records()
    _say(whole)
    began = time.monotonic()
    with making(directory, whole.plan, settings.overwrite) as run:
        if run:
            _write(settings, whole, directory, run, began)
    return read_manifest(directory.storage)


def _say(whole: Concatenation) -> None:
    """A line for each table, for each source that gets another name, and for each file that stands there twice."""
    for origin in whole.origins:
        rejects = f" and {counted(origin.rejected, 'reject')}" if origin.rejected else ""
        log.info("%s: %s%s", origin.name, counted(origin.rows, "row"), rejects)
        for old, new in origin.renamed.items():
            log.warning("%s of %s is called %s: another table has a different file of that name", old, origin.name, new)
    for names in _same_bytes(whole.sources):
        log.warning("files of the same bytes, each with rows: %s", ", ".join(names))


def _same_bytes(sources: Sequence[Source]) -> list[list[str]]:
    count = Counter(source.sha256 for source in sources if source.read)
    return [
        [source.source for source in sources if source.sha256 == sha256 and source.read]
        for sha256, files in count.items()
        if files > 1
    ]


def _write(settings: ConcatSettings, whole: Concatenation, directory: OutputDirectory, run: str, began: float) -> None:
    schema, fingerprint = whole.schema, table_fingerprint(whole.identity)
    data = write_parts(directory, run, "data", whole.rows(), schema)
    before = [table.manifest for table in whole.tables]
    rejects = []
    if any(manifest.total.rejected for manifest in before):
        rejects = write_parts(directory, run, "rejects", whole.rejects(), rejects_schema(fingerprint))
    manifest = Manifest(
        contract=CONTRACT,
        fingerprint=fingerprint,
        identity=whole.identity,
        columns=column_fingerprints(whole.identity),
        total=Counts(**{name: sum(getattr(source, name) for source in whole.sources) for name in Counts.model_fields}),
        sources=whole.sources,
        data=data,
        rejects=rejects,
        cost=Cost.now(
            sum(manifest.cost.seconds for manifest in before) + time.monotonic() - began,
            sum(manifest.cost.tokens for manifest in before),
        ),
        not_read=sorted({other for manifest in before for other in manifest.not_read}),
        concatenated_from=whole.origins,
        provenance=provenance("concat", settings, before=before),
    )
    assert manifest.total.scored == sum(part.rows for part in data), "every row is written"
    sign(directory, run, manifest, schema)
