"""Columns for a finished table: a new table with all that the old one has, under a fingerprint of its own."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.exchange import CARD, FOLDERS, REPORT
from curricle.pipelines.tables.making import check_output, is_made, making, same_path
from curricle.pipelines.tables.phase import enter
from curricle.pipelines.tables.reader import TableReader
from curricle.pipelines.tables.recorded import is_finished
from curricle.pipelines.tables.sign import sign, write_report
from curricle.pipelines.tables.writer import write_parts
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError
from curricle.schemas.contract import CONTRACT
from curricle.schemas.exchange import NEXT, read_finished
from curricle.schemas.fingerprint import stands_for
from curricle.schemas.identity import column_fingerprints, table_fingerprint, table_identity
from curricle.schemas.manifest import CERTIFICATE, MANIFEST, Cost, ExtendedFrom, Manifest, Provenance
from curricle.schemas.table import NOTES_FIELD, rejects_schema, table_schema

log = logging.getLogger("curricle")

SCORES = "_progress/scores"


@dataclass(frozen=True)
class Addition:
    """What is added: signed columns, and where their values come from.

    ``rows()`` yields tables with ``example_id``, the columns and ``notes`` (null where there is nothing to say), in
    the order of the table that they are for, in pieces of any size.
    """

    columns: Sequence[ScoreColumn]
    rows: Callable[[], Iterator[pa.Table]]


@contextmanager
def extending(
    table: TableReader,
    output: str,
    recipe: dict[str, Any],
    overwrite: bool,
    columns: Sequence[str],
    beside: Sequence[str] = (),
    over_itself: bool = False,
) -> Iterator[str | None]:
    """Hold ``output`` while columns with these names are made by this recipe; yields the run.

    None if they are there already. ``beside``: what the recipe leaves below ``output`` beside the table. UsageError if
    the table has such a column, or something else lies there that is not to be overwritten. ``over_itself``: ``output``
    is the table's own directory, and the new table replaces it once it is whole.
    """
    directory = OutputDirectory(output)
    _check_new(table, columns)
    if not over_itself:
        check_output(directory, table, overwrite)
    with making(directory, _plan(table, recipe), overwrite, (SCORES, *beside), over_itself) as run:
        if run is None:
            log.info("already there, nothing to do")
        yield run
    tidy(directory)


def is_extended(
    table: TableReader,
    output: str,
    recipe: dict[str, Any],
    overwrite: bool,
    columns: Sequence[str],
    beside: Sequence[str] = (),
) -> bool:
    """Whether what ``extending`` would make is there. UsageError as there; nothing is written."""
    directory = OutputDirectory(output)
    _check_new(table, columns)
    check_output(directory, table, overwrite)
    return is_made(directory, _plan(table, recipe), overwrite, (SCORES, *beside))


def _plan(table: TableReader, recipe: dict[str, Any]) -> dict[str, Any]:
    recipe = json.loads(json.dumps(recipe, allow_nan=False))
    return {"extends": table.manifest_sha256, "recipe": recipe}


def _check_new(table: TableReader, columns: Sequence[str]) -> None:
    if doubled := sorted({*columns} & {*table.schema.names}):
        raise UsageError(
            f"the table has a column {doubled[0]!r} already", where=table.path, remedy="name a table without it"
        )


def tidy(directory: OutputDirectory) -> None:
    """Remove the stage that is done, or what a kill after the manifest left of it, and see to the page."""
    if not is_finished(directory):
        return
    if directory.storage.names(SCORES):
        with directory.held():
            directory.storage.remove(SCORES)
    if not directory.storage.exists(REPORT):
        write_report(directory)


def extend(
    table: TableReader, directory: OutputDirectory, run: str, addition: Addition, origin: Provenance
) -> Manifest:
    """Write the table with what is added to it, and its manifest last of what must be there."""
    began, before, spent = time.monotonic(), table.manifest, _spent(directory)
    enter(directory, run, "writing the table", records=before.total.scored)
    table.check_bytes()
    columns = [*table.scores.values(), *addition.columns]
    identity = table_identity(columns, before.identity.get("reading"))
    fingerprint = table_fingerprint(identity)
    schema = table_schema(columns, fingerprint)
    data = write_parts(directory, run, "data", _joined(table, addition.rows(), schema), schema)
    rejects = []
    if before.rejects:
        signed = rejects_schema(fingerprint)
        rejects = write_parts(directory, run, "rejects", table.rejected(signed), signed)
    manifest = Manifest(
        contract=CONTRACT,
        fingerprint=fingerprint,
        identity=identity,
        columns=column_fingerprints(identity),
        total=before.total,
        sources=before.sources,
        data=data,
        rejects=rejects,
        cost=Cost.now(
            before.cost.seconds + spent.seconds + time.monotonic() - began, before.cost.tokens + spent.tokens
        ),
        selected_from=before.selected_from,
        concatenated_from=before.concatenated_from,
        not_read=before.not_read,
        extended_from=ExtendedFrom(manifest_sha256=table.manifest_sha256, fingerprint=before.fingerprint),
        provenance=origin,
    )
    assert before.total.scored == sum(part.rows for part in data), "every row is written"
    directory.check_held_by(run)
    if before.selected_from:
        directory.storage.write(f"{NEXT}/{CERTIFICATE}", table.files.read(CERTIFICATE))
    if same_path(table.path, directory.path):
        _carry(directory)
    sign(directory, run, manifest, schema)
    return manifest


def _carry(directory: OutputDirectory) -> None:
    """What else belongs to a table that is replaced, such as figures of its clusters, belongs to the new one."""
    finished = read_finished(directory.storage)
    for name in finished.files if finished else ():
        ours = name in (CARD, CERTIFICATE) or name.startswith(tuple(f"{folder}/" for folder in FOLDERS))
        if not ours and directory.storage.exists(name):
            directory.storage.write(f"{NEXT}/{name}", directory.storage.read(name))


def _spent(directory: OutputDirectory) -> Cost:
    """What the scoring job took, if the recipe has one."""
    if not directory.storage.exists(f"{SCORES}/{MANIFEST}"):
        return Cost(seconds=0, tokens=0, created="")
    return TableReader(directory.storage.uri(SCORES)).manifest.cost


def _joined(table: TableReader, added: Iterator[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of the table with what is added to them."""
    rest = None
    for group in table.groups():
        pieces: list[pa.Table] = [] if rest is None else [rest]
        while sum(piece.num_rows for piece in pieces) < group.num_rows:
            pieces.append(next(added))
        waiting = pa.concat_tables(pieces)
        mine, rest = waiting.slice(0, group.num_rows), waiting.slice(group.num_rows)
        assert all(_same_example(*pair) for pair in _differing(mine, group)), "rows of one order"
        columns = {name: group[name] if name in group.column_names else mine[name] for name in schema.names}
        columns[NOTES_FIELD.name] = both_notes(group[NOTES_FIELD.name], mine[NOTES_FIELD.name])
        yield pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
    assert (rest is None or not rest.num_rows) and next(added, None) is None, "no row too many is added"


def _differing(scored: pa.Table, table: pa.Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows that scoring has another name for than the table: one that is older, where an input stands apart."""
    differ = pc.not_equal(scored["example_id"], table["example_id"])
    named = table.select(["messages", "extra"])
    return zip(scored["example_id"].filter(differ).to_pylist(), named.filter(differ).to_pylist(), strict=True)


def _same_example(identity: str, row: dict[str, Any]) -> bool:
    return stands_for(identity, [(turn["role"], turn["content"]) for turn in row["messages"]], row["extra"])


def both_notes(old: pa.ChunkedArray, new: pa.ChunkedArray) -> pa.Array:
    """The notes of each row: what was said before, then what is new. None is nothing to say.

    Of a field beside a conversation the same is said each time that it is read, and once is enough.
    """
    pairs = zip(old.to_pylist(), new.to_pylist(), strict=True)
    texts = [[*dict.fromkeys([*(before or []), *(after or [])])] or None for before, after in pairs]
    return pa.array(texts, NOTES_FIELD.type)


def with_notes(rows: Callable[[], Iterator[pa.Table]], notes: Sequence[str | None]) -> Iterator[pa.Table]:
    """The rows of an addition with one more note on some of them; ``notes`` has one entry for each row, or None."""
    start = 0
    for table in rows():
        mine = pa.chunked_array([pa.array([note and [note] for note in notes[start : start + table.num_rows]])])
        start += table.num_rows
        at = table.schema.get_field_index(NOTES_FIELD.name)
        yield table.set_column(at, table.schema.field(at), both_notes(table[NOTES_FIELD.name], mine))
