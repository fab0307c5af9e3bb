"""Where finished tables agree: which columns they have made alike, how records became rows, what sources are called.

UsageError, in words for a person, where they do not.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import listed
from curricle.schemas.fingerprint import differences


def labels_of(paths: Sequence[str]) -> list[str]:
    """A name for each directory: the last steps of its path, as few as tell them apart. UsageError for one twice."""
    steps = [PurePosixPath(path.rstrip("/") or path).parts for path in paths]
    for depth in range(1, max(map(len, steps)) + 1):
        labels = ["/".join(part.strip("/") for part in each[-depth:]) for each in steps]
        if len({*labels}) == len(labels):
            return labels
    again = next(path for number, path in enumerate(paths) if steps[number] in steps[:number])
    raise UsageError("is named twice", where=again, remedy="name each table once")


def common_columns(tables: Sequence[TableReader], labels: Sequence[str], names: Sequence[str]) -> list[ScoreColumn]:
    """The score columns of these names, or all, which every table has. UsageError, with fingerprints, where not."""
    first, *others = tables
    for table in tables:
        for name in names:
            if name not in table.scores:
                raise UsageError(f"no score column {name!r}", where=table.path, remedy=nearest(name, table.scores))
    faults = [
        fault
        for other, label in zip(others, labels[1:], strict=True)
        for fault in _disagreements(first, other, labels[0], label, names)
    ]
    if faults:
        raise UsageError(
            "the tables are not made alike:" + listed(faults, 1000),
            where=", ".join(table.path for table in tables),
            remedy="add what is missing with `curricle add`, or keep with --columns those that agree",
        )
    columns = [column for name, column in first.scores.items() if not names or name in names]
    if learned := [column.name for column in columns if _is_of_its_table(column)]:
        _check_one_origin(tables, learned)
    return columns


def _disagreements(
    one: TableReader, other: TableReader, label: str, its_label: str, names: Sequence[str]
) -> Iterator[str]:
    """One line for each column in which two tables do not agree, with both fingerprints, and what is behind that."""
    for name in names or [*one.scores, *(name for name in other.scores if name not in one.scores)]:
        mine, its = one.scores.get(name), other.scores.get(name)
        if mine is None or its is None:
            there, lacks = (label, its_label) if mine else (its_label, label)
            column = mine or its
            assert column
            yield f"column {name}: {column.fingerprint} in {there}, and {lacks} has none"
        elif changes := mine.changes(its):
            words = "; ".join(f"{line:.200}" for line in changes[:3])
            yield f"column {name}: {mine.fingerprint} in {label}, {its.fingerprint} in {its_label}: {words}"


def _is_of_its_table(column: ScoreColumn) -> bool:
    """Whether a number depends on the other rows, from which a model was learned: another table has another model."""
    return column.metric in ("cluster", "reward") or "training" in column.rests_on


def _check_one_origin(tables: Sequence[TableReader], learned: Sequence[str]) -> None:
    """UsageError unless all tables are selections of the one table whose rows were learned from."""
    origins = [table.manifest.selected_from for table in tables]
    if all(origins) and len({origin.manifest_sha256 for origin in origins if origin}) == 1:
        return
    raise UsageError(
        f"{', '.join(learned)}: learned from the rows of each table, so that values of two do not compare",
        where=", ".join(table.path for table in tables),
        remedy="name the other columns with --columns, and make these anew of the whole",
    )


def common_reading(tables: Sequence[TableReader], labels: Sequence[str]) -> dict[str, Any] | None:
    """How records became examples. A plug-in reader of one table's files made no row of the others, and is none of
    their differences. UsageError for what is one.
    """
    readings = [table.manifest.identity.get("reading") for table in tables]
    readers = {kind: reader for reading in readings for kind, reader in (reading or {}).get("readers", {}).items()}
    first, *others = (
        reading and reading | ({"readers": readers | reading.get("readers", {})} if readers else {})
        for reading in readings
    )
    for label, other in zip(labels[1:], others, strict=True):
        if changed := differences({"reading": first}, {"reading": other}):
            raise UsageError(
                f"records became rows otherwise in {labels[0]} and in {label}:" + listed(changed),
                where=", ".join(table.path for table in tables),
                remedy="score the files of one of them again, with the same version and options",
            )
    return first


def source_names(tables: Sequence[TableReader], labels: Sequence[str]) -> list[dict[str, str]]:
    """What each table's sources are called in the whole: as they are, and behind the table's name where another file
    has that name.
    """
    files = defaultdict(set)
    for table in tables:
        for source in table.manifest.sources:
            files[source.source].add((source.sha256, source.bytes))
    names = [
        {
            source.source: source.source if len(files[source.source]) == 1 else f"{label}/{source.source.lstrip('/')}"
            for source in table.manifest.sources
        }
        for table, label in zip(tables, labels, strict=True)
    ]
    whole = defaultdict(set)
    for table, renamed in zip(tables, names, strict=True):
        for source in table.manifest.sources:
            whole[renamed[source.source]].add((source.sha256, source.bytes))
    if doubled := [name for name, different in whole.items() if len(different) > 1]:
        where = ", ".join(table.path for table in tables)
        raise UsageError(f"two files would be called {doubled[0]!r}", where=where, remedy="rename a table's directory")
    return names
