"""A selection: derive the rows, write them as a table of the same contract, sign."""

import json
import logging
import time
from collections import Counter
from hashlib import sha256
from typing import Any

from curricle.curate.selection.join import Joined
from curricle.pipelines.settings.select import SelectSettings
from curricle.pipelines.tables.certificate import content
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.making import check_output, making
from curricle.pipelines.tables.reader import TableReader
from curricle.pipelines.tables.selection import Derived, derive
from curricle.pipelines.tables.sign import sign
from curricle.pipelines.tables.writer import write_parts
from curricle.schemas.common.errors import UsageError
from curricle.schemas.contract import CONTRACT, tagged
from curricle.schemas.exchange import NEXT
from curricle.schemas.identity import column_fingerprints, table_fingerprint
from curricle.schemas.manifest import CERTIFICATE, Cost, Counts, Manifest, Part, SelectedFrom, Source, read_manifest

log = logging.getLogger("curricle")


def select(settings: SelectSettings) -> Manifest:
    """Write the selection that the settings describe, unless it is there, and return its manifest."""
    assert settings.table and settings.output, "the settings have checked it"
    began = time.monotonic()
    directory, table = OutputDirectory(settings.output), TableReader(settings.table)
    if not table.manifest.total.scored:
        raise UsageError("the table has no rows", where=settings.table, remedy="name one in which something was scored")
    check_output(directory, table, settings.overwrite)
    derived = derive(settings.recipe(), table)
    certificate = derived.certificate()
    for line in _summary(certificate):
        log.info("%s", line)
    for joined in derived.joined:
        if joined.unused:
            log.warning("%s: %d rows belong to no row of the table", joined.file, joined.unused)
        if not joined.covered:
            raise _matches_nothing(derived, joined)
    if not certificate["selected"]:
        raise UsageError("no row is selected", where=settings.table, remedy="ask for less")
    plan = content(certificate)
    with making(directory, plan, settings.overwrite) as run:
        if run:
            _write(directory, derived, certificate, run, began)
    return read_manifest(directory.storage)


def _matches_nothing(derived: Derived, joined: Joined) -> UsageError:
    """A join that gives no row a value, with a key of each side to compare."""
    on = " and ".join(joined.on)
    there = ", ".join(map(repr, derived.keys.select(joined.on).row(0)))
    if joined.first is None:
        found, remedy = f"no row of it has {on}", f"write the table's {on} beside each value, such as {there}"
    else:
        here = ", ".join(f"{value!r:.100}" for value in joined.first)
        found = f"none of its rows has {on} of a row of the table: {here} in its first, {there} in the table's"
        remedy = f"write the table's {on} beside each value, or name the file that belongs to this table"
    return UsageError(found, where=joined.file, remedy=remedy)


def _summary(certificate: dict[str, Any]) -> list[str]:
    """What each rule did, for a person."""
    rows = certificate["table"]["rows"]
    lines = [
        f"{joined['file']} covers {joined['covered']:,} of {rows:,} rows: {', '.join(joined['columns'])}"
        for joined in certificate["joined"]
    ]
    for step in certificate["steps"]:
        line = f"{step['rule']}: {step['left']:,} of {step['rows']:,} rows"
        line += f", {step['asked']:,} asked" if "asked" in step else ""
        nulls = step.get("nulls", 0) + step.get("nulls_per", 0)
        lines.append(line + (f", {nulls:,} without a value" if nulls else ""))
    return lines


def _write(directory: OutputDirectory, derived: Derived, certificate: dict[str, Any], run: str, began: float) -> None:
    schema = derived.schema
    data = write_parts(directory, run, "data", derived.rows(), schema)
    signed = (json.dumps(tagged("certificate", certificate), ensure_ascii=False, indent=1) + "\n").encode()
    manifest = _manifest(derived, data, sha256(signed).hexdigest(), time.monotonic() - began)
    assert manifest.total.scored == sum(part.rows for part in data) == certificate["selected"], "every row is written"
    directory.check_held_by(run)
    directory.storage.write(f"{NEXT}/{CERTIFICATE}", signed)
    sign(directory, run, manifest, schema)


def _manifest(derived: Derived, data: list[Part], certificate_sha256: str, seconds: float) -> Manifest:
    table = derived.table
    counts = Counter(derived.keys["source"].gather(derived.selection.rows))
    sources = [
        Source(
            source=source.source,
            bytes=source.bytes,
            sha256=source.sha256,
            read=source.scored,
            scored=counts[source.source],
            rejected=0,
            left_out=source.scored - counts[source.source],
        )
        for source in table.manifest.sources
    ]
    return Manifest(
        contract=CONTRACT,
        fingerprint=table_fingerprint(derived.identity),
        identity=derived.identity,
        columns=column_fingerprints(derived.identity),
        total=Counts(**{name: sum(getattr(source, name) for source in sources) for name in Counts.model_fields}),
        sources=sources,
        data=data,
        rejects=[],
        cost=Cost.now(seconds, 0),
        selected_from=SelectedFrom(
            manifest_sha256=table.manifest_sha256,
            fingerprint=table.manifest.fingerprint,
            rows=len(derived.keys),
            certificate_sha256=certificate_sha256,
        ),
    )
