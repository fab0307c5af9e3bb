"""Columns of more metrics for a finished table: what is there is neither computed nor read by a model again."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from curricle.curate.metrics import select
from curricle.curate.metrics.lp import METRIC as LP
from curricle.curate.passes.models import Models
from curricle.curate.proxy.settings import ProxySettings
from curricle.pipelines.commands.score import scored
from curricle.pipelines.settings.add import AddSettings, TableProxySettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.extend import extend, extending, tidy
from curricle.pipelines.tables.making import same_path
from curricle.pipelines.tables.provenance import provenance
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import listed
from curricle.schemas.fingerprint import differences
from curricle.schemas.identity import CHECKPOINTS
from curricle.schemas.manifest import Manifest, read_manifest

log = logging.getLogger("curricle")


@dataclass(frozen=True)
class AddRequest:
    """Columns that a table is to get: the new ones by name, and the options of the job that scores them."""

    table: TableReader
    new: Mapping[str, ScoreColumn]
    options: Mapping[str, Any]

    @property
    def recipe(self) -> dict[str, Any]:
        return {"columns": {name: column.identity for name, column in self.new.items()}}


def add(settings: AddSettings) -> Manifest:
    """Write the table with the columns of these metrics, or what is left of it, and return its manifest.

    UsageError for a column that is there and made otherwise; UserError and DirectoryLocked as for scoring.
    """
    output = settings.output or settings.table
    directory, over_itself = OutputDirectory(output), same_path(settings.table, output)
    directory.settle()  # over itself, a table that a kill left half moved is whole before it is read
    request = request_of(settings)
    if not request.new:
        tidy(directory)
        return read_manifest(directory.storage)
    table, new = request.table, request.new
    with extending(table, output, request.recipe, settings.overwrite, [*new], over_itself=over_itself) as run:
        if run:
            addition = scored(table, directory, [*new], **request.options)
            models = Models(request.options["proxy"], settings.embedding)
            used = models.libraries(addition.columns), models.origins(addition.columns)
            extend(table, directory, run, addition, provenance("add", settings, *used, [table.manifest]))
    return read_manifest(directory.storage)


def request_of(settings: AddSettings) -> AddRequest:
    """What is to be added; nothing if the table, which is to have it itself, has it all. UsageError as for ``add``."""
    table = TableReader(settings.table)
    proxy = _proxy(settings.proxy, table)
    columns = _columns(settings, Models(proxy, settings.embedding))
    if settings.proxy.model is None and not proxy.checkpoints:
        _check_model(table, columns.values())
    _check_alike(table, (column for group in columns.values() for column in group))
    missing = {name: lacking for name, group in columns.items() if (lacking := _lacking(table, group))}
    for name in columns.keys() - missing.keys():
        log.info("%s: the table has these columns, made alike; they stay as they are", name)
    if not missing:
        if not same_path(settings.table, settings.output or settings.table):
            raise UsageError("the table has all these columns", where=table.path, remedy="name a metric that it lacks")
        log.info("nothing to do")
    new = {column.name: column for group in missing.values() for column in group}
    if again := sorted({column.name for name in missing for column in columns[name]} - new.keys()):
        log.info("computed once more on the way, and left as they are: %s", ", ".join(again))
    options = {
        "metrics": tuple(missing),
        "proxy": proxy,
        "embedding": settings.embedding,
        "compat": settings.compat if LP.name in missing else None,
        "workers": settings.workers,
        "shard_rows": settings.shard_rows,
        "reuse": settings.reuse,
    }
    return AddRequest(table, new, options)


def _proxy(chosen: TableProxySettings, table: TableReader) -> ProxySettings:
    """What was chosen; and where nothing was, what the table's first column says that rests on it."""
    before = {**_first(table, "proxy"), **_first(table, "rendering")}
    values = {item.name: getattr(chosen, item.name) for item in fields(TableProxySettings)}
    for name in ("backend", "dtype", "template", "end_of_turn", "max_length"):
        if values[name] is None and name in before:
            values[name] = before[name]
    return ProxySettings(**{name: value for name, value in values.items() if value is not None})


def _first(table: TableReader, part: str) -> Mapping[str, Any]:
    """What the first column that rests on such a part says of it; nothing if none does."""
    columns_there = (column.rests_on[part] for column in table.scores.values() if part in column.rests_on)
    return {key: value for key, value in next(columns_there, {}).items() if key != CHECKPOINTS}


def _columns(settings: AddSettings, models: Models) -> dict[str, list[ScoreColumn]]:
    """The columns that each name stands for; a metric that comes along with it is among them."""
    names = dict.fromkeys([*settings.metrics, *([LP.name] if settings.proxy.checkpoints else [])])
    options = {LP.name: {"compat": settings.compat}}
    return {
        name: [column for metric in select([name], models, options) for column in metric.signed_columns(models)]
        for name in names
    }


def _lacking(table: TableReader, columns: Iterable[ScoreColumn]) -> list[ScoreColumn]:
    return [column for column in columns if column.name not in table.schema.names]


def _check_alike(table: TableReader, columns: Iterable[ScoreColumn]) -> None:
    """UsageError for a column of the table that would be another one now, with what differs."""
    for column in columns:
        if column.name not in table.schema.names:
            continue
        there = table.scores.get(column.name)
        changed = there.changes(column) if there else ["no metric made it"]
        if changed:
            raise UsageError(
                f"the table has a column {column.name!r} that is made otherwise:" + listed(changed),
                where=table.path,
                remedy="give the options that the table was scored with, or score its input again, with --reuse this "
                "table: what is made alike is copied",
            )


def _check_model(table: TableReader, request: Iterable[Sequence[ScoreColumn]]) -> None:
    """UsageError if the default model would be asked beside the one that scored the table, and nobody chose it."""
    for part in ("proxy", "rendering"):
        before = _first(table, part)
        for column in (column for columns in request for column in columns if before and part in column.rests_on):
            if changed := differences(before, column.rests_on[part]):
                raise UsageError(
                    f"the table was not scored with {ProxySettings.model} as it is here:"
                    + listed([f"{part}.{change}" for change in changed]),
                    where=table.path,
                    remedy="name the model with --proxy.model",
                )
