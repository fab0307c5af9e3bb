"""A selection: derive the rows, write them as a table of the same contract, sign."""

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from hashlib import sha256
from typing import Any

from curricle.curate.selection.join import Joined
from curricle.pipelines.settings.select import SelectSettings
from curricle.pipelines.tables.certificate import content
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.making import check_output, check_plan, making
from curricle.pipelines.tables.provenance import provenance
from curricle.pipelines.tables.reader import TableReader
from curricle.pipelines.tables.selection import Derived, derive
from curricle.pipelines.tables.sign import sign
from curricle.pipelines.tables.writer import write_parts
from curricle.schemas.common import stop
from curricle.schemas.common.errors import UsageError
from curricle.schemas.contract import CONTRACT, tagged
from curricle.schemas.exchange import NEXT
from curricle.schemas.identity import column_fingerprints, table_fingerprint
from curricle.schemas.manifest import (
    CERTIFICATE,
    MANIFEST,
    Cost,
    Counts,
    Manifest,
    Part,
    Provenance,
    SelectedFrom,
    Source,
    read_manifest,
)

log = logging.getLogger("curricle")

LIBRARIES = ("polars", "numpy")


def select(settings: SelectSettings) -> Manifest:
    """Write the selection that the settings describe, unless it is there, and return its manifest."""
    if settings.split and settings.split_only is None:
        raise UsageError("--split makes several tables", remedy="use pipelines.split, or name one with --split-only")
    assert settings.output, "the settings have checked it"
    return _written(settings, {settings.output: _derived(settings, [settings.output])})[settings.output]


def split(settings: SelectSettings) -> dict[str, Manifest]:
    """Write each set of the split that the settings describe, unless it is there, and return their manifests by name.

    Each is whole as soon as its manifest is there. UsageError before any is written if one may not be, or would have
    no row, or if something of another split lies beside them.
    """
    assert settings.output and settings.split and settings.split_only is None, "the settings have checked it"
    paths = {name: f"{settings.output.rstrip('/')}/{name}" for name in settings.split_shares()}
    _check_alone(settings, list(paths))
    derived = _derived(settings, list(paths.values()))
    manifests = _written(settings, {paths[name]: each for name, each in derived.splits.items()})
    return {name: manifests[path] for name, path in paths.items()}


def _check_alone(settings: SelectSettings, names: Sequence[str]) -> None:
    """UsageError if the directory of a split is a table, or holds one that is none of its sets: it may share rows."""
    assert settings.output
    storage = OutputDirectory(settings.output).storage
    there = [name.split("/") for name in storage.names("")]
    if any(path[0] in (MANIFEST, "_progress") for path in there):
        remedy = "name a directory that has nothing but the sets of the split"
        raise UsageError("is a table, or one in the making", where=settings.output, remedy=remedy)
    others = sorted({name for name, *rest in there if name not in names and rest[:1] in ([MANIFEST], ["_progress"])})
    if others:
        found = f"holds a table {others[0]!r}, which is none of --split and may have rows of its sets"
        raise UsageError(found, where=settings.output, remedy="name another --output, or remove it")


def _derived(settings: SelectSettings, outputs: Sequence[str]) -> Derived:
    """What the settings describe, and a line for each thing in it that a person should know."""
    assert settings.table, "the settings have checked it"
    table = TableReader(settings.table)
    if not table.manifest.total.scored:
        raise UsageError("the table has no rows", where=settings.table, remedy="name one in which something was scored")
    for output in outputs:
        check_output(OutputDirectory(output), table, settings.overwrite)
    derived = derive(settings.recipe(), table)
    certificate = derived.certificate()
    for line in _summary(certificate):
        log.info("%s", line)
    if shortage := _shortage(certificate):
        log.warning("%s", shortage)
    for joined in derived.joined:
        if joined.alike:
            log.info("%s: %s: the table has these columns, made alike", joined.file, ", ".join(joined.alike))
        if joined.unused:
            log.warning("%s: %d rows belong to no row of the table", joined.file, joined.unused)
        if not joined.covered:
            raise _matches_nothing(derived, joined)
    return derived


def _written(settings: SelectSettings, derived: Mapping[str, Derived]) -> dict[str, Manifest]:
    """Write what is derived, each in its directory, and return the manifests."""
    certificates = {path: each.certificate() for path, each in derived.items()}
    for path, certificate in certificates.items():
        if not certificate["selected"]:
            raise _is_empty(settings, path)
        check_plan(OutputDirectory(path), content(certificate), settings.overwrite)
    manifests = {}
    for path, certificate in certificates.items():
        stop.go_on()
        began, directory = time.monotonic(), OutputDirectory(path)
        with making(directory, content(certificate), settings.overwrite) as run:
            if run:
                shingled = settings.near_duplicates or settings.split_by == "near_duplicates"
                libraries = (*LIBRARIES, *(("datasketch",) if shingled else ()))
                origin = provenance("select", settings, libraries, before=[derived[path].table.manifest])
                _write(directory, derived[path], certificate, run, began, origin)
        manifests[path] = read_manifest(directory.storage)
    return manifests


def _is_empty(settings: SelectSettings, path: str) -> UsageError:
    if settings.split:
        name = settings.split_only or path.rpartition("/")[2]
        remedy = "give it a larger share, or split by what makes smaller groups; another --seed draws anew"
        return UsageError(f"no row is left for {name!r} of --split", where=settings.table, remedy=remedy)
    if settings.complement:
        found = "the rules take every row, and --complement is the rows that they do not take"
        return UsageError(found, where=settings.table, remedy="give rules that take fewer rows, or leave it out")
    remedy = "loosen the rule after which no row is left: the lines above say how many each one leaves"
    return UsageError("no row is selected", where=settings.table, remedy=remedy)


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
    if joined.is_table:
        remedy = "name a table of the same examples"
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
        if "sets" in step:
            lines += _sets(step)
            continue
        nulls = step.get("nulls", 0) + step.get("nulls_per", 0)
        lines.append(line + (f", {nulls:,} without a value" if nulls else ""))
    return lines


def _shortage(certificate: dict[str, Any]) -> str | None:
    """What is to be said where --count asks for more rows than there are."""
    count = certificate["recipe"]["count"]
    step = next((step for step in certificate["steps"] if step["rule"] == "take"), None)
    if not count or not step or step["left"] >= count:
        return None
    rows, lacking = step["rows"], step["nulls"] + step.get("nulls_per", 0)
    there = f"{rows - lacking:,} of {rows:,} rows have the values that are needed" if lacking else f"{rows:,} are left"
    return f"--count {count:,} is more than there are: {there}, and all of them are taken"


def _sets(step: dict[str, Any]) -> list[str]:
    """What a split did: its groups, and how large each set was to be and is."""
    line = (
        f"split by {step['by']}: {step['rows']:,} rows in {step['groups']:,} groups, the largest of {step['largest']:,}"
    )
    line += f", {step['nulls']:,} rows without a value" if step.get("nulls") else ""
    line += f"; {step['merged']:,} groups are one with another, for they share an example_id" if step["merged"] else ""
    lines = [line]
    for name, each in step["sets"].items():
        share, wanted = each["rows"] / step["rows"], float(Fraction(each["share"]))
        lines.append(f"  {name}: {each['rows']:,} rows in {each['groups']:,} groups, {share:.2%} ({wanted:.2%} asked)")
    return lines


def _write(
    directory: OutputDirectory,
    derived: Derived,
    certificate: dict[str, Any],
    run: str,
    began: float,
    origin: Provenance,
) -> None:
    schema = derived.schema
    data = write_parts(directory, run, "data", derived.rows(), schema)
    signed = (json.dumps(tagged("certificate", certificate), ensure_ascii=False, indent=1) + "\n").encode()
    manifest = _manifest(derived, data, sha256(signed).hexdigest(), time.monotonic() - began, origin)
    assert manifest.total.scored == sum(part.rows for part in data) == certificate["selected"], "every row is written"
    directory.check_held_by(run)
    directory.storage.write(f"{NEXT}/{CERTIFICATE}", signed)
    sign(directory, run, manifest, schema)


def _manifest(
    derived: Derived, data: list[Part], certificate_sha256: str, seconds: float, origin: Provenance
) -> Manifest:
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
        provenance=origin,
    )
