"""How well hardness transfers between finished tables: their columns compared, as a table, JSON and a page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import PurePosixPath

import polars as pl
import polars.selectors as selectors
from curricle.curate.report.agreement import SHARES, agreement
from curricle.curate.report.distributions import is_numeric
from curricle.curate.report.transfer import Comparison, transfer_page
from curricle.pipelines.settings.transfer import TransferSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError

JSON, PAGE = "transfer.json", "transfer.html"


def transfer(settings: TransferSettings) -> list[Comparison]:
    """Write the report, and return what is in it. UsageError where two tables have no example in common."""
    directory = OutputDirectory(settings.output)
    directory.check_holds_only((JSON, PAGE))
    tables = dict(zip(_labels(settings.tables), map(TableReader, settings.tables), strict=True))
    columns = _columns(list(tables.values()), settings.columns)
    for table in tables.values():
        table.check_bytes()
    frames = {label: _frame(table, list(columns)) for label, table in tables.items()}
    comparisons = [
        _compare(pair, frames[pair[0]], frames[pair[1]], column)
        for pair in combinations(tables, 2)
        for column in columns.values()
    ]
    about = [
        {
            "label": label,
            "place": table.path,
            "rows": table.manifest.total.scored,
            "fingerprint": table.manifest.fingerprint,
            "manifest_sha256": table.manifest_sha256,
        }
        for label, table in tables.items()
    ]
    records = [
        {"one": each.one, "other": each.other, "column": each.column.name, "hard": each.column.hard}
        | asdict(each.agreement)
        for each in comparisons
    ]
    page = transfer_page(about, comparisons)
    with directory.held():
        directory.write_json(JSON, {"tables": about, "comparisons": records})
        directory.write_text(PAGE, page)
    return comparisons


def _labels(paths: Sequence[str]) -> list[str]:
    """The names of the directories; their paths where two have one name."""
    names = [PurePosixPath(path.rstrip("/")).name or path for path in paths]
    return names if max(Counter(names).values()) == 1 else list(paths)


def _columns(tables: Sequence[TableReader], names: Sequence[str]) -> dict[str, ScoreColumn]:
    """What is compared: as the first table describes it."""
    numbers = [{name: column for name, column in table.scores.items() if is_numeric(column)} for table in tables]
    for table, there in zip(tables, numbers, strict=True):
        for name in names:
            if name not in there:
                raise UsageError(f"no column of numbers {name!r}", where=table.path, remedy=nearest(name, there))
    wanted = names or [name for name in numbers[0] if all(name in there for there in numbers)]
    if not wanted:
        raise UsageError("the tables have no column of numbers in common", remedy="score them with the same metrics")
    return {name: numbers[0][name] for name in wanted}


def _frame(table: TableReader, columns: Sequence[str]) -> pl.DataFrame:
    """The columns by example, finite numbers or null; of equal examples, the first."""
    frame = pl.DataFrame(table.columns(["example_id", *columns])).unique(
        "example_id", keep="first", maintain_order=True
    )
    whole = selectors.integer()  # only their order is compared, and as floats large ones would be equal
    numbers = frame.select(columns).with_columns(whole.rank("dense")).select(pl.all().cast(pl.Float64))
    numbers = numbers.with_columns(pl.when(pl.all().is_finite()).then(pl.all()))
    return numbers.with_columns(frame["example_id"])


def _compare(pair: tuple[str, str], one: pl.DataFrame, other: pl.DataFrame, column: ScoreColumn) -> Comparison:
    name = column.name
    both = one.select("example_id", pl.col(name).alias("one")).join(
        other.select("example_id", pl.col(name).alias("other")), on="example_id", maintain_order="left"
    )
    both = both.drop_nulls()
    if both.is_empty():
        raise UsageError(
            f"{pair[0]} and {pair[1]} have no example in common with a number in column {name!r}",
            remedy="name tables of the same examples",
        )
    mine, theirs = (both[side].to_numpy() for side in ("one", "other"))
    return Comparison(*pair, column, agreement(mine, theirs, column.hard or "high"))


def lines(comparisons: Sequence[Comparison]) -> list[str]:
    """The comparisons as columns of text: overlaps in per cent, with chance in brackets."""
    ends = [f"{hardness} {share:.0%}" for hardness in ("hard", "easy") for share in SHARES]
    rows = [["tables", "column", "rows", "rho", *ends]]
    for each in comparisons:
        agreement = each.agreement
        rho = "-" if agreement.spearman is None else f"{agreement.spearman:.3f}"
        overlaps = [f"{100 * overlap.overlap:.1f} ({100 * overlap.chance:.1f})" for overlap in agreement.overlaps]
        rows.append([f"{each.one} x {each.other}", each.column.name, f"{agreement.rows:,}", rho, *overlaps])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
