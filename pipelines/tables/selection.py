"""A recipe applied to a table."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from curricle.curate.selection.derive import KEYS, Rules, Selection, Turns
from curricle.curate.selection.join import Joined, join, join_table
from curricle.curate.selection.recipe import Recipe
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.reader import TableReader, table_path
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import listed
from curricle.schemas.identity import table_fingerprint, table_identity
from curricle.schemas.inputs import by_response
from curricle.schemas.manifest import MANIFEST
from curricle.schemas.sums import sha256_of
from curricle.schemas.table import table_schema
from numpy.typing import NDArray


@dataclass(frozen=True)
class Derived:
    """A recipe applied to a table: which rows it keeps, and what is written of them."""

    table: TableReader
    recipe: Recipe
    joined: list[Joined]
    keys: pl.DataFrame
    selection: Selection

    @property
    def splits(self) -> dict[str, "Derived"]:
        """Each set of a split, as what ``--split-only`` with its name would derive."""
        return {
            name: replace(self, recipe=replace(self.recipe, split_only=name), selection=self.selection.only(name))
            for name in self.selection.splits
        }

    @property
    def identity(self) -> dict[str, Any]:
        """What made the scores: those of the table, and the files that were joined."""
        return table_identity(self._columns, self.table.manifest.identity.get("reading"))

    @property
    def _columns(self) -> list[ScoreColumn]:
        return [*self.table.scores.values(), *(column for joined in self.joined for column in joined.described)]

    @property
    def schema(self) -> pa.Schema:
        return table_schema(self._columns, table_fingerprint(self.identity))

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
        files = tuple(OutputDirectory(file).absolute.path for file in self.recipe.join)
        certificate = {
            "certificate": self.recipe.version,
            "table": {
                "place": OutputDirectory(table.path).absolute.path,
                "manifest_sha256": table.manifest_sha256,
                "fingerprint": table.manifest.fingerprint,
                "columns": {name: column.fingerprint for name, column in table.scores.items()},
                "rows": len(self.keys),
            },
            "recipe": self.recipe.to_json() | {"join": files},
            "joined": [
                {"file": j.file, "sha256": j.sha256, "columns": j.columns.columns, "covered": j.covered}
                for j in self.joined
            ],
            "steps": self.selection.steps,
            "selected": selected,
            "left_out": len(self.keys) - selected,
            "ids": hashlib.sha256(ids.encode()).hexdigest(),
        }
        return json.loads(json.dumps(certificate, allow_nan=False))


def derive(recipe: Recipe, table: TableReader, lying: Sequence[str] | None = None) -> Derived:
    """Apply the recipe. UsageError for what the table, or what is joined to it, does not have.

    ``lying``: where the joined files and tables lie now, if not where the recipe says.
    """
    table.check_bytes()
    keys = pl.DataFrame(table.columns(KEYS))
    paths = zip(recipe.join, recipe.join if lying is None else lying, strict=True)
    joined = [_joined(table, keys, path, file) for file, path in paths]
    names = [name for columns in (table.schema.names, *(j.columns.columns for j in joined)) for name in columns]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise _stands_twice(doubled[0], table, joined, recipe)
    scores = table.scores | {column.name: column for j in joined for column in j.described}
    rules = Rules(recipe, names, scores)
    own = [name for name in rules.columns if name in table.schema.names and name not in KEYS]
    read = [pl.DataFrame(table.columns(own))] if own else []
    frame = pl.concat([keys, *read, *(j.columns for j in joined)], how="horizontal")
    return Derived(table, recipe, joined, keys, rules.derive(frame, partial(_texts, table)))


def _stands_twice(name: str, table: TableReader, joined: Sequence[Joined], recipe: Recipe) -> UsageError:
    """The refusal of two columns of one name: in what they differ, if tables say it, and how to have both."""
    others = [each for each in joined if each.is_table and name in each.columns.columns]
    described = [column for each in others for column in each.described if column.name == name]
    columns = [*([table.scores[name]] if name in table.scores else []), *described]
    differ = listed(columns[0].changes(columns[1])) if len(columns) > 1 else ""
    found = f"column {name!r} stands in the table and in what is joined to it, or in two that are joined"
    remedy = "rename it in the file that is joined"
    if described:
        code = (
            f'pl.read_parquet("{others[-1].file.rstrip("/")}/data/*.parquet")'
            f'.select("example_id", other_{name}="{name}").write_csv("other.csv")'
        )
        remedy = f"to have both, write that of the joined table under another name (`{code}`, with polars) and join "
        remedy += "that file; to have its own alone, select from the joined table"
    return UsageError(found + (differ and f"; made otherwise:{differ}"), where=", ".join(recipe.join), remedy=remedy)


def _joined(table: TableReader, keys: pl.DataFrame, path: str, file: str) -> Joined:
    """The columns of a file, or the score columns of a table that this one lacks: its texts are this one's."""
    name = PurePosixPath(OutputDirectory(file).absolute.path.rstrip("/")).name
    if not is_table(path):
        return join(Path(path), keys, name)
    other = TableReader(table_path(path))
    other.check_bytes()
    alike = {n for n in other.scores.keys() & table.scores if not other.scores[n].changes(table.scores[n])}
    columns = {n: column for n, column in other.scores.items() if n not in alike}
    if not columns:
        raise UsageError("has no score column that the table lacks", where=path, remedy="name one with other scores")
    frame = pl.DataFrame(other.columns([*KEYS, *columns]))
    return replace(join_table(frame, columns, keys, path, name, other.manifest_sha256), alike=sorted(alike))


def is_table(path: str) -> bool:
    """Whether what is to be joined can be no file: a table is named by its directory, or by its certificate."""
    return "://" in path or os.path.isdir(table_path(path))


def sha256_joined(path: str) -> str | None:
    """The SHA-256 by which a joined file is known again, or the manifest's of a joined table; None if none is there."""
    if not is_table(path):
        return sha256_of(Path(path)) if Path(path).is_file() else None
    other = TableReader(table_path(path))
    return other.manifest_sha256 if other.files.exists(MANIFEST) else None


def _texts(table: TableReader, rows: NDArray[np.int64]) -> Iterator[Turns]:
    for _, group in table.rows(rows, ["messages", "extra"]):
        for turns, extra in zip(group["messages"].to_pylist(), group["extra"].to_pylist(), strict=True):
            yield by_response([(turn["role"], turn["content"]) for turn in turns], extra)
