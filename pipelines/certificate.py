"""The certificate of a selection: everything that is needed to derive it again, and what was found on the way."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from curate.selection.derive import KEYS, Rules, Selection, Turns
from curate.selection.join import Joined, join
from curate.selection.recipe import Recipe
from pipelines.compact import row_groups
from pipelines.directory import OutputDirectory
from pipelines.finished import FinishedTable
from pipelines.storage import open_storage
from schemas.config import build
from schemas.errors import UsageError, UserError
from schemas.fingerprint import differences, digest
from schemas.manifest import CERTIFICATE, MANIFEST
from schemas.table import table_schema
from schemas.verify import verify

VERSION = 2


@dataclass(frozen=True)
class Derived:
    """A recipe applied to a table: which rows it keeps, and what is written of them."""

    table: FinishedTable
    recipe: Recipe
    joined: list[Joined]
    keys: pl.DataFrame
    selection: Selection

    @property
    def identity(self) -> dict[str, Any]:
        """What made the scores: those of the table, and the files that were joined."""
        before = self.table.manifest.identity
        files = [{"file": joined.file, "sha256": joined.sha256} for joined in self.joined]
        return {**before, "joined": [*before.get("joined", []), *files]} if files else before

    @property
    def schema(self) -> pa.Schema:
        added = [column for joined in self.joined for column in joined.described]
        return table_schema([*self.table.scores.values(), *added], digest(self.identity))

    def rows(self) -> Iterator[pa.Table]:
        """The selected rows in the table's order, a row group at a time."""
        schema = self.schema
        added = {name: joined.columns[name] for joined in self.joined for name in joined.columns.columns}
        for numbers, group in self.table.rows(self.selection.rows):
            columns = [
                pa.chunked_array([added[f.name].gather(numbers).to_arrow().cast(f.type)])
                if f.name in added
                else group[f.name]
                for f in schema
            ]
            yield pa.Table.from_arrays(columns, schema=schema)

    def certificate(self) -> dict[str, Any]:
        """As JSON-like values. ``ids``: the SHA-256 of the selected example ids, one a line, in order."""
        table, selected = self.table, len(self.selection.rows)
        ids = "".join(f"{identity}\n" for identity in self.keys["example_id"].gather(self.selection.rows))
        files = tuple(os.path.abspath(file) for file in self.recipe.join)
        made = {
            "certificate": VERSION,
            "table": {
                "place": OutputDirectory(table.place).absolute.place,
                "manifest_sha256": table.manifest_sha256,
                "fingerprint": table.manifest.fingerprint,
                "rows": len(self.keys),
            },
            "recipe": asdict(self.recipe) | {"join": files},
            "joined": [
                {"file": j.file, "sha256": j.sha256, "columns": j.columns.columns, "covered": j.covered}
                for j in self.joined
            ],
            "steps": self.selection.steps,
            "selected": selected,
            "left_out": len(self.keys) - selected,
            "ids": hashlib.sha256(ids.encode()).hexdigest(),
        }
        return json.loads(json.dumps(made, allow_nan=False))


def derive(recipe: Recipe, table: FinishedTable) -> Derived:
    """Apply the recipe. UsageError for what the table or the joined files do not have."""
    table.check_bytes()
    keys = pl.DataFrame(table.columns(KEYS))
    joined = [join(Path(file), keys) for file in recipe.join]
    names = [name for columns in (table.schema.names, *(j.columns.columns for j in joined)) for name in columns]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(
            f"column {doubled[0]!r} stands in the table and in a joined file, or in two of them",
            where=", ".join(recipe.join),
            remedy="rename it in one of them",
        )
    rules = Rules(recipe, names, table.scores)
    own = [name for name in rules.columns if name in table.schema.names and name not in KEYS]
    read = [pl.DataFrame(table.columns(own))] if own else []
    frame = pl.concat([keys, *read, *(j.columns for j in joined)], how="horizontal")
    return Derived(table, recipe, joined, keys, rules.derive(frame, partial(_texts, table)))


def _texts(table: FinishedTable, rows: NDArray[np.int64]) -> Iterator[Turns]:
    for _, group in table.rows(rows, ["messages"]):
        for turns in group["messages"].to_pylist():
            yield [(turn["role"], turn["content"]) for turn in turns]


def content(certificate: dict[str, Any]) -> dict[str, Any]:
    """A certificate without where the table and the joined files lay, which may be moved: their digests say which."""
    table = {key: value for key, value in certificate["table"].items() if key != "place"}
    files = [Path(file).name for file in certificate["recipe"].get("join", [])]
    return {**certificate, "table": table, "recipe": {**certificate["recipe"], "join": files}}


def check(place: str, table: str | None, moved: Sequence[str] = ()) -> list[str]:
    """Derive the selection with this certificate again: one line for each thing in which it is not the same.

    ``place`` is a selection's directory or its ``certificate.json``; ``table`` says where the table lies now if not
    where the certificate says, and ``moved`` where joined files lie. UserError if there is nothing to compare.
    """
    selection = FinishedTable(place.removesuffix(CERTIFICATE).rstrip("/") or ".")
    if faults := verify(selection.files).faults:
        return faults
    recorded, recipe, from_place = _read(selection)
    table = table or from_place
    if not open_storage(table).exists(MANIFEST):
        remedy = f"say where it lies now: `curricle select TABLE --check {place}`"
        raise UsageError("the table that was selected from is not there", where=table, remedy=remedy)
    recipe = replace(recipe, join=_found(recipe.join, moved, selection.files.uri(CERTIFICATE)))
    derived = derive(recipe, FinishedTable(table))
    faults = differences(content(recorded), content(derived.certificate()))
    return faults or _changed_rows(derived, selection)


def _found(files: Sequence[str], moved: Sequence[str], where: str) -> tuple[str, ...]:
    """The joined files where they lie now: those that were moved have the names that they had."""
    now, found = list(moved), []
    for file in files:
        here = next((other for other in now if Path(other).name == Path(file).name), None)
        if here is not None:
            now.remove(here)
        if here is None and not Path(file).exists():
            remedy = "say with --join where it lies now"
            raise UsageError("the file that was joined is not there", where=file, remedy=remedy)
        found.append(here or file)
    if now:
        names = ", ".join(Path(file).name for file in files) or "none"
        raise UsageError(
            f"joins no file {Path(now[0]).name}", where=where, remedy=f"--join names files where they lie now: {names}"
        )
    return tuple(found)


def _read(selection: FinishedTable) -> tuple[dict[str, Any], Recipe, str]:
    where = selection.files.uri(CERTIFICATE)
    if selection.manifest.selected_from is None:
        raise UsageError("is no selection", where=selection.place, remedy="name what `curricle select` wrote")
    if selection.manifest.extended_from is not None:
        raise UsageError(
            "has columns that were added after its rows were selected",
            where=selection.place,
            remedy="check the selection that they were added to",
        )
    try:
        recorded = _as_now(json.loads(selection.files.read(CERTIFICATE)))
        return recorded, build(Recipe, recorded["recipe"], where), str(recorded["table"]["place"])
    except UserError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot be read: {error!r}", where=where, remedy="copy the selection again") from error


def _as_now(certificate: dict[str, Any]) -> dict[str, Any]:
    """What a certificate of version 1 says, in the words of this one: it had one meaning of near-duplicates."""
    if certificate["certificate"] != 1:
        return certificate
    recipe = certificate["recipe"]
    of = "both" if recipe["near_duplicates"] is None else "chains"
    return {**certificate, "certificate": VERSION, "recipe": {"near_duplicates_of": of, **recipe}}


def _changed_rows(derived: Derived, selection: FinishedTable) -> list[str]:
    """Whether the rows that lie there are those of the table, to the last value."""
    schema = derived.schema
    if not selection.schema.equals(schema, check_metadata=True):
        return ["the columns are not those of the table, or not described as there"]
    lying = (pa.Table.from_arrays(group.columns, schema=schema) for group in selection.groups())
    pairs = zip_longest(row_groups(derived.rows(), schema), row_groups(lying, schema))
    return (
        []
        if all(one is not None and one.equals(other) for one, other in pairs)
        else ["a row is not as it stands in the table"]
    )
