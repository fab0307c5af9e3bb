"""A recipe applied to a table."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from curricle.curate.selection.derive import KEYS, Rules, Selection, Turns
from curricle.curate.selection.join import Joined, join
from curricle.curate.selection.recipe import Recipe
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError
from curricle.schemas.identity import table_fingerprint, table_identity
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
        files = tuple(os.path.abspath(file) for file in self.recipe.join)
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
    """Apply the recipe. UsageError for what the table or the joined files do not have.

    ``lying``: where the joined files lie now, if not where the recipe says.
    """
    table.check_bytes()
    keys = pl.DataFrame(table.columns(KEYS))
    paths = zip(recipe.join, recipe.join if lying is None else lying, strict=True)
    joined = [join(Path(path), keys, Path(file).name) for file, path in paths]
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


def _texts(table: TableReader, rows: NDArray[np.int64]) -> Iterator[Turns]:
    for _, group in table.rows(rows, ["messages"]):
        for turns in group["messages"].to_pylist():
            yield [(turn["role"], turn["content"]) for turn in turns]
