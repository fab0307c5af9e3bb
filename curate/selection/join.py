"""Columns from a file or from another table, joined to the rows of a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from curricle.curate.selection.joined_file import BY_ID, BY_POSITION, read_columns
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError


@dataclass(frozen=True)
class Joined:
    """Columns as long as the table and in its order, null where the file has no row, and how many rows it covers.

    ``unused`` are the rows of the file that belong to no row of the table: of another key, or of none; ``on`` are the
    names of the key, and ``first`` is the first key in the file, if it has one. ``alike``: of another table
    (``is_table``), the columns that this one has too, made alike.
    """

    columns: pl.DataFrame
    described: list[ScoreColumn]
    file: str
    sha256: str
    covered: int
    unused: int
    on: list[str]
    first: tuple[Any, ...] | None
    is_table: bool = False
    alike: list[str] = field(default_factory=list)


def join_table(
    other: pl.DataFrame, columns: Mapping[str, ScoreColumn], keys: pl.DataFrame, path: str, name: str, sha256: str
) -> Joined:
    """Join columns of another table to the rows with these keys, by ``example_id``: its values are the example's.

    ``other``: its keys and these columns. Of an example that it has several times, the row of the same source and
    position counts. UsageError where it has none such, and the values differ.
    """
    by = [*BY_ID, *BY_POSITION]
    numbered = other.select(by).with_row_index("row").cast({"row": pl.Int64})
    first = numbered.unique("example_id", keep="first", maintain_order=True).select("example_id", first="row")
    exact = numbered.unique(by, keep="first", maintain_order=True)
    matched = keys.select(by).join(exact, on=by, how="left", maintain_order="left")
    matched = matched.join(first, on="example_id", how="left", maintain_order="left")
    by_id = matched.filter(pl.col("row").is_null())["example_id"]
    again = numbered.join(first, on="example_id", how="left", maintain_order="left").filter(
        (pl.col("row") != pl.col("first")) & pl.col("example_id").is_in(by_id.implode())
    )
    for column in columns:
        same = other[column].gather(again["row"]).eq_missing(other[column].gather(again["first"]))
        if not same.all():
            raise UsageError(
                f"has several rows of example {again['example_id'].filter(~same)[0]}, which differ in {column!r}",
                where=path,
                remedy="keep one of them: `curricle select` with --distinct makes a table of one row per example",
            )
    rows = matched.select(pl.coalesce("row", "first")).to_series()
    return Joined(
        pl.DataFrame([other[column].gather(rows) for column in columns]),
        [*columns.values()],
        name,
        sha256,
        covered=len(rows) - rows.null_count(),
        unused=len(other) - int(other["example_id"].is_in(keys["example_id"].implode()).sum()),
        on=BY_ID,
        first=next(iter(other.select(BY_ID).rows()), None),
        is_table=True,
    )


def join(path: Path, keys: pl.DataFrame, name: str | None = None) -> Joined:
    """Join the file's columns to the rows with these ``example_id``, ``source`` and ``source_position``.

    ``name`` is what the columns say that they are joined from, where the file has been renamed since.
    The file has ``example_id``, or ``source`` and ``source_position``; the source may be left out where the table has
    one. UsageError if it cannot be read, has neither, or has two rows for one key.
    """
    read, sha256 = read_columns(path)
    on = BY_ID if BY_ID[0] in read.columns else BY_POSITION
    if on == BY_POSITION and "source" not in read.columns and keys["source"].n_unique() == 1:
        read = read.with_columns(source=pl.lit(keys["source"][0]))
    if not set(on) <= set(read.columns):
        raise UsageError(
            f"has the columns {', '.join(read.columns[:20])}",
            where=str(path),
            remedy="give it example_id, or source and source_position",
        )
    total = len(read)
    read = read.drop([name for name in BY_ID + BY_POSITION if name not in on], strict=False)
    read = read.with_columns([_key(read[name], keys[name].dtype, path) for name in on]).drop_nulls(on)
    if read.select(on).is_duplicated().any():
        raise UsageError(f"has two rows for one {' and '.join(on)}", where=str(path), remedy="keep one of them")
    values = [_plain(read[name], path) for name in read.columns if name not in on]
    if not values:
        raise UsageError("has no column to join", where=str(path), remedy="add a score to it")
    numbered = read.select(on).with_row_index("row").cast({"row": pl.Int64})
    rows = keys.select(on).join(numbered, on=on, how="left", maintain_order="left")["row"]
    columns = pl.DataFrame([column.gather(rows) for column in values])
    file = name or path.name
    origin = {"file": file, "sha256": sha256}
    described = [
        ScoreColumn(column, field.type, "as given", f"joined from {file}").of_metric("join", 1, origin)
        for column, field in zip(columns.columns, columns.to_arrow().schema, strict=True)
    ]
    covered, used = len(rows) - rows.null_count(), rows.drop_nulls().n_unique()
    return Joined(columns, described, file, sha256, covered, total - used, on, next(iter(read.select(on).rows()), None))


def _key(column: pl.Series, wanted: pl.DataType, path: Path) -> pl.Series:
    """A key of the table's type. Positions may be whole floats, as pandas makes them of integers with gaps."""
    series = _plain(column, path) if column.dtype.is_float() or column.dtype in (pl.Categorical, pl.Enum) else column
    if series.null_count() == len(series):
        return pl.Series(column.name, [None] * len(series), wanted)
    if series.dtype == wanted:
        return series
    if series.dtype.is_numeric() and wanted.is_integer():
        cast = series.cast(wanted, strict=False)
        other = series.filter(series.is_not_null() & cast.ne_missing(series))
        if other.is_empty():
            return cast
        found, remedy = f"its {column.name} holds {other[0]}", "write positions as whole numbers from 0"
        raise UsageError(found, where=str(path), remedy=remedy)
    kind = "whole numbers" if wanted.is_integer() else "text"
    raise UsageError(
        f"its {column.name} holds {column.dtype}, which cannot be compared with the table's {wanted}",
        where=str(path),
        remedy=f"write {column.name} as it stands in the table, as {kind}",
    )


def _plain(column: pl.Series, path: Path) -> pl.Series:
    """Texts as the table's parts hold them, and null for what is no number."""
    if column.dtype == pl.Null:
        return column.cast(pl.Float64)
    if column.dtype in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if column.dtype.is_float():
        return column.fill_nan(None)
    if column.dtype.is_integer() or column.dtype in (pl.Boolean, pl.String):
        return column
    raise UsageError(
        f"column {column.name!r} holds {column.dtype}", where=str(path), remedy="leave it out, or write plain values"
    )
