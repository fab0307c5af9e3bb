"""Prove that a table is whole: recount everything that its manifest promises (docs/design.md, law 1)."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UserError
from curricle.schemas.common.log import printable
from curricle.schemas.contract import FIRST, read_contract
from curricle.schemas.exchange import FINISHED, committed, manifest_is_as_written, read_finished
from curricle.schemas.files import Files, Location, files_in
from curricle.schemas.fingerprint import stands_for
from curricle.schemas.identity import column_fingerprints, table_fingerprint
from curricle.schemas.manifest import CERTIFICATE, MANIFEST, Counts, Manifest, Part, read_manifest
from curricle.schemas.parquet import open_parquet
from curricle.schemas.sums import sha256_of
from curricle.schemas.table import (
    EXAMPLE_FIELDS,
    EXAMPLES,
    NOTES_FIELD,
    REJECTS,
    read_file_metadata,
    score_columns,
)

BATCH_ROWS = 8192
BATCH_BYTES = 1 << 26

SchemaCheck: TypeAlias = Callable[[str, pa.Schema, Manifest], list[str]]
"""The faults in the schema of a part, which is named first."""


@dataclass
class Verification:
    """What was counted, and everything that is wrong. An empty ``faults`` means that the table is whole."""

    manifest: Manifest
    counted: Counts
    faults: list[str] = field(default_factory=list)


def verify(location: Location) -> Verification:
    """Recount a finished table: files, digests, schema, rows per source, positions, and example ids.

    Raises UserError if there is no manifest to hold the table to.
    """
    files = committed(files_in(location))
    manifest = read_manifest(files)
    faults = _compare_record(files)
    faults += _compare_identity(manifest)
    faults += _unexpected_files(files, manifest)
    scored = _Recount(files, manifest, manifest.data, _check_data_schema, check_ids=True)
    rejected = _Recount(files, manifest, manifest.rejects, _check_rejects_schema, check_ids=False)
    faults += scored.faults + rejected.faults
    faults += _compare_ledger(manifest, scored.rows, rejected.rows)
    faults += _compare_certificate(files, manifest) + _compare_concatenated(manifest)
    doubled = scored.positions.keys() & rejected.positions.keys()
    for source in sorted(doubled):
        both = scored.positions[source].intersection(rejected.positions[source])
        if both:
            faults.append(f"{source}: record {min(both)} is both in the table and in the rejects")
    total_scored, total_rejected = sum(scored.rows.values()), sum(rejected.rows.values())
    left_out = manifest.total.left_out  # only the table that was selected from can tell
    read = total_scored + total_rejected + left_out
    counted = Counts(read=read, scored=total_scored, rejected=total_rejected, left_out=left_out)
    return Verification(manifest, counted, [printable(fault) for fault in faults])


class _Positions:
    """The positions seen of one source, as ranges: in input order they are few, however many the rows."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []

    def add(self, positions: list[int]) -> bool:
        """Take strictly increasing positions in; False if one does not follow the last."""
        for position in positions:
            if self.ranges and position <= self.ranges[-1][1]:
                return False
            if self.ranges and position == self.ranges[-1][1] + 1:
                self.ranges[-1] = (self.ranges[-1][0], position)
            else:
                self.ranges.append((position, position))
        return True

    def intersection(self, other: "_Positions") -> set[int]:
        """The start of each stretch that both hold."""
        common, mine, theirs = set(), 0, 0
        while mine < len(self.ranges) and theirs < len(other.ranges):
            (start, stop), (other_start, other_stop) = self.ranges[mine], other.ranges[theirs]
            if max(start, other_start) <= min(stop, other_stop):
                common.add(max(start, other_start))
            if stop < other_stop:
                mine += 1
            else:
                theirs += 1
        return common


class _Recount:
    """Reads every row of some parts once, in batches."""

    def __init__(
        self, files: Files, manifest: Manifest, parts: list[Part], check_schema: SchemaCheck, *, check_ids: bool
    ) -> None:
        self.faults: list[str] = []
        self.rows: Counter[str] = Counter()
        self.positions: dict[str, _Positions] = {}
        for part in parts:
            if not files.exists(part.path):
                self.faults.append(f"{part.path}: the file is missing")
                continue
            try:
                with files.local(part.path) as path:
                    self._recount(part, path, manifest, check_schema, check_ids)
            except UserError as error:
                self.faults.append(f"{part.path}: {error.found}")
            except (OSError, ValueError) as error:
                self.faults.append(f"{part.path}: cannot be read: {error}")

    def _recount(self, part: Part, path: Path, manifest: Manifest, check_schema: SchemaCheck, check_ids: bool) -> None:
        if path.stat().st_size != part.bytes or sha256_of(path) != part.sha256:
            self.faults.append(f"{part.path}: the bytes are not those that were written (size or SHA-256)")
            return
        with open_parquet(path) as parquet:
            self.faults += check_schema(part.path, parquet.schema_arrow, manifest)
            self._read(part, parquet, check_ids)

    def _read(self, part: Part, parquet: pq.ParquetFile, check_ids: bool) -> None:
        wanted = ["source", "source_position", *(["example_id", "messages"] if check_ids else [])]
        read = [*wanted, *(["extra"] if check_ids else [])]
        if not all(_has(parquet.schema_arrow, EXAMPLES.field(name)) for name in read):
            return  # the check of the schema has said so
        rows = 0
        for batch in parquet.iter_batches(_batch_rows(parquet.metadata), columns=read):
            rows += batch.num_rows
            if empty := [name for name in wanted if batch[name].null_count]:
                self.faults.append(f"{part.path}: column {empty[0]} has nulls")
                continue
            self._count(part, batch)
            if check_ids:
                self._check_ids(part, batch)
        if rows != part.rows:
            self.faults.append(f"{part.path}: {rows} rows, and the manifest says {part.rows}")

    def _count(self, part: Part, batch: pa.RecordBatch) -> None:
        for source in pc.unique(batch["source"]).to_pylist():
            positions = pc.filter(batch["source_position"], pc.equal(batch["source"], source)).to_pylist()
            self.rows[source] += len(positions)
            if not self.positions.setdefault(source, _Positions()).add(positions):
                self.faults.append(f"{part.path}: records of {source} are doubled or out of order")

    def _check_ids(self, part: Part, batch: pa.RecordBatch) -> None:
        columns = (batch[name].to_pylist() for name in ("example_id", "messages", "extra"))
        for identity, turns, extra in zip(*columns, strict=True):
            if any(turn is None or None in turn.values() for turn in turns):
                self.faults.append(f"{part.path}: example {identity} has a null in its messages")
                return
            if not stands_for(identity, [(turn["role"], turn["content"]) for turn in turns], extra):
                self.faults.append(f"{part.path}: example {identity} does not hold the messages that it is named after")
                return


def damaged(location: Location, digests: bool) -> list[str]:
    """What of a finished table is not there as it was written: by names and sizes, or by digests as well.

    Quick, where ``verify`` recounts what the files hold. One line for each fault.
    """
    files = committed(files_in(location))
    try:
        manifest = read_manifest(files)
    except UserError as error:
        return [printable(f"{MANIFEST}: {error.found}")]
    faults = _compare_record(files) + _unexpected_files(files, manifest)
    for part in [*manifest.data, *manifest.rejects]:
        size = files.size(part.path)
        if size != part.bytes:
            mismatch = "the file is missing" if size is None else f"{size} bytes, and the manifest says {part.bytes}"
            faults.append(f"{part.path}: {mismatch}")
        elif digests:
            with files.local(part.path) as path:
                if sha256_of(path) != part.sha256:
                    faults.append(f"{part.path}: the bytes are not those that were written (SHA-256)")
    return [printable(fault) for fault in faults + _compare_certificate(files, manifest)]


def _compare_record(files: Files) -> list[str]:
    """Whether the manifest is the one that was written, where that was recorded: a copy may be without."""
    try:
        finished = read_finished(files)
    except ValueError as error:
        return [f"{FINISHED}: is damaged: {error}"]
    if finished is None or manifest_is_as_written(files, finished):
        return []
    return [f"{MANIFEST}: the bytes are not those that were written (SHA-256)"]


def _compare_identity(manifest: Manifest) -> list[str]:
    """Whether the fingerprints are those of the identity beside them."""
    try:
        fingerprint, columns = table_fingerprint(manifest.identity), column_fingerprints(manifest.identity)
    except ValueError as error:
        return [f"{MANIFEST}: {error}"]
    faults = [
        f"{MANIFEST}: the fingerprint of column {name} is not that of the identity beside it"
        for name in sorted({*columns, *manifest.columns})
        if columns.get(name) != manifest.columns.get(name)
    ]
    if fingerprint != manifest.fingerprint:
        faults.append(f"{MANIFEST}: the fingerprint is not that of the identity beside it")
    return faults


def _unexpected_files(files: Files, manifest: Manifest) -> list[str]:
    expected = {part.path for part in [*manifest.data, *manifest.rejects]}
    present = {*files.names("data"), *files.names("rejects")}
    return [f"{path}: the file is not in the manifest" for path in sorted(present - expected)]


def _check_signature(path: str, schema: pa.Schema, manifest: Manifest) -> list[str]:
    signed, fingerprint = read_file_metadata(schema), manifest.fingerprint
    if read_contract(signed.get("contract")) == manifest.contract and signed.get("fingerprint") == fingerprint:
        return []
    return [
        f"{path}: signed {signed}, and the manifest says fingerprint {fingerprint}, "
        f"contract {manifest.contract.to_json()}"
    ]


def _check_data_schema(path: str, schema: pa.Schema, manifest: Manifest) -> list[str]:
    faults = _check_signature(path, schema, manifest)
    for expected in [*EXAMPLE_FIELDS, NOTES_FIELD]:
        if not _has(schema, expected):
            faults.append(f"{path}: column {expected.name} is missing or is not {expected.type}")
    scores = score_columns(schema)
    columns = {*scores, *(arrow.name for arrow in EXAMPLE_FIELDS), NOTES_FIELD.name}
    faults += [
        f"{path}: column {name} does not say which metric made it" for name in schema.names if name not in columns
    ]
    return faults + [f"{path}: {fault}" for fault in _compare_columns(scores, manifest)]


def _compare_columns(scores: dict[str, ScoreColumn], manifest: Manifest) -> list[str]:
    """Whether the columns of a file are made as the manifest says. Contract 1 said so of the whole table alone."""
    if manifest.contract.version == FIRST.version:
        return []
    promised, present = manifest.columns, {name: column.fingerprint for name, column in scores.items()}
    return [
        f"column {name} is signed {present.get(name)}, and the manifest says {promised.get(name)}"
        for name in sorted({*promised, *present})
        if promised.get(name) != present.get(name)
    ]


def _check_rejects_schema(path: str, schema: pa.Schema, manifest: Manifest) -> list[str]:
    faults = _check_signature(path, schema, manifest)
    return faults if schema.equals(REJECTS) else [*faults, f"{path}: the columns are not those of rejects"]


def _has(schema: pa.Schema, expected: pa.Field) -> bool:
    index = schema.get_field_index(expected.name)  # -1 for two of one name, too
    return index >= 0 and schema.field(index).type == expected.type


def _batch_rows(footer: pq.FileMetaData) -> int:
    """Rows that have about ``BATCH_BYTES`` together."""
    size = sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))
    return max(1, min(BATCH_ROWS, BATCH_BYTES * footer.num_rows // max(1, size)))


def _compare_ledger(manifest: Manifest, scored: Counter[str], rejected: Counter[str]) -> list[str]:
    faults = []
    promised = {source.source: source for source in manifest.sources}
    for name in sorted({*scored, *rejected} - set(promised)):
        faults.append(f"{name}: has rows but is not among the sources of the manifest")
    for name, source in promised.items():
        if source.read != source.scored + source.rejected + source.left_out:
            faults.append(
                f"{name}: {source.read} read is not {source.scored} scored + {source.rejected} rejected "
                f"+ {source.left_out} left out"
            )
        if scored[name] != source.scored or rejected[name] != source.rejected:
            faults.append(
                f"{name}: {scored[name]} scored and {rejected[name]} rejected rows are there; "
                f"the manifest says {source.scored} and {source.rejected}"
            )
    for count in ("read", "scored", "rejected", "left_out"):
        total, summed = getattr(manifest.total, count), sum(getattr(source, count) for source in manifest.sources)
        if total != summed:
            faults.append(f"manifest.json: total {count} is {total}, the sources sum to {summed}")
    return faults


def _compare_certificate(files: Files, manifest: Manifest) -> list[str]:
    """Whether what a selection says of its origin is whole; what it says is for `curricle select --check`."""
    origin, total = manifest.selected_from, manifest.total
    if origin is None:
        return [f"manifest.json: {total.left_out} rows are left out of what is no selection"] if total.left_out else []
    faults = []
    if total.read != origin.rows:
        faults.append(f"manifest.json: {total.read} rows were read of a table that has {origin.rows}")
    try:
        with files.local(CERTIFICATE) as path:
            if sha256_of(path) != origin.certificate_sha256:
                faults.append(f"{CERTIFICATE}: the bytes are not those that were written (SHA-256)")
    except (OSError, UserError) as error:
        faults.append(f"{CERTIFICATE}: cannot be read: {error}")
    return faults


def _compare_concatenated(manifest: Manifest) -> list[str]:
    """Whether a table that was put together has as many rows and rejects as the tables that it is of."""
    origins, total = manifest.concatenated_from, manifest.total
    if not origins or manifest.selected_from:
        return []
    faults = []
    for name, mine, its in (
        ("rows", total.scored, sum(origin.rows for origin in origins)),
        ("rejects", total.rejected, sum(origin.rejected for origin in origins)),
    ):
        if mine != its:
            faults.append(f"{MANIFEST}: {mine} {name} are there, and the tables that it was made of have {its}")
    return faults
