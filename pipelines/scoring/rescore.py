"""A scoring job over the rows of a table: the stage that learning percentage and reward share."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.extend import SCORES
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UserError
from curricle.schemas.table import NOTES_FIELD

LONGEST = 2**31
"""Bytes of a record: what stands in a table was short enough when it was made."""


def of_proxy(weights: Weights, settings: ProxySettings) -> dict[str, Any]:
    """What a proxy's numbers rest on, for a recipe."""
    return {
        "model": weights.identity,
        "rendering": Renderer(weights, settings).identity(),
        "dtype": settings.dtype,
        "backend": settings.backend,
    }


def table_scoring(table: TableReader, directory: OutputDirectory, **options: Any) -> ScoreSettings:
    """The settings of a scoring job, with these options, over the texts of a table: a stage of making columns.

    What it finds damaged of its own earlier work it makes again: there is nothing that a user could do about it.
    """
    parts = tuple(table.files.uri(part.path) for part in table.manifest.data)
    return ScoreSettings(
        inputs=parts,
        output=directory.storage.uri(SCORES),
        format="table",
        max_record_bytes=LONGEST,
        max_reject_fraction=0,
        overwrite=True,
        **options,
    )


def scored_columns(directory: OutputDirectory, names: Sequence[str]) -> list[ScoreColumn]:
    """These columns of what that job wrote, signed."""
    scored = TableReader(directory.storage.uri(SCORES)).scores
    return [scored[name] for name in names]


def scored_rows(directory: OutputDirectory, names: Sequence[str]) -> Iterator[pa.Table]:
    """What that job wrote, as an ``Addition`` wants it. UserError if it could not read every row of the table."""
    scored = TableReader(directory.storage.uri(SCORES))
    if rejected := scored.manifest.total.rejected:
        raise UserError(
            f"{rejected} rows of the table could not be read again",
            where=scored.path,
            remedy="run `curricle verify` on the table",
        )
    return (group.select(["example_id", *names, NOTES_FIELD.name]) for group in scored.groups())
