"""The rows of a table in an order, as another trainer reads them; whole or not there."""

import fcntl
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from curricle.schemas.chat.responses import RESPONSE_ROLE
from curricle.schemas.common.disk import beside, check_writable, publish, refuse_link, remove
from curricle.schemas.common.errors import DirectoryLocked, UsageError, UserError
from curricle.schemas.common.wording import counted, listed
from curricle.schemas.fingerprint import differences
from curricle.schemas.inputs import context_turns, with_input
from curricle.schemas.sums import sums_of
from curricle.schemas.table import MESSAGES
from curricle.train.data.parquet import missing_column
from curricle.train.data.table import Example, Table
from curricle.train.ordering.batches import digest_of
from curricle.train.ordering.exports.formats import FORMATS, ID, ExportFormat, ExportRecord
from curricle.train.ordering.exports.orders import ORDER_FILE, TableOrder, order_of
from curricle.train.ordering.exports.permutation import in_order
from curricle.train.ordering.exports.settings_files import write_settings
from curricle.train.ordering.exports.sidecar import Sidecar, read_sidecar
from curricle.train.ordering.exports.writers import writer_of
from curricle.train.ordering.order import Order
from curricle.train.ordering.plan import PLAN, columns_of_plan
from curricle.train.settings.export import ExportSettings

log = logging.getLogger("curricle")

SCRATCH = "_scratch"
CHUNK = 1 << 17
CONTEXT = "message_fields.train (answers that are context: here they are learnt)"
CONTEXT_IN_EXTRA = "message_fields.train but in `extra` (trainers that do not look there learn what is context)"
NOTHING_LEARNT = "has no answer to learn, each is context"


def export(settings: ExportSettings) -> Sidecar:
    """Write the rows in their order, and return what ``order.json`` says; at once if all of it is there already.

    UsageError, before anything is written, for what does not fit; UserError where the trainer could not read rows.
    """
    check_writable(settings.output)
    form, ordered = FORMATS[settings.to], order_of(settings)
    ordered.table.check_texts()
    columns = _columns(ordered.table, form, settings.columns)
    wanted = _described(settings, ordered)
    for note in ordered.notes:
        log.info("%s", note)
    refuse_link(settings.output)
    if (there := _already(settings.output, wanted)) is not None:
        return there
    with _published(settings.output) as partial:
        return _write(settings, form, ordered, columns, wanted, partial)


@contextmanager
def _published(output: Path) -> Iterator[Path]:
    """An empty directory to write in, which no other job has; it gets its name if the block ends well, and is removed
    if it does not.
    """
    partial = beside(output)
    partial.mkdir(parents=True, exist_ok=True)
    handle = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.stat(partial)  # the job that had it may just have given it its name
        except (BlockingIOError, FileNotFoundError) as error:
            raise DirectoryLocked(
                "another job writes this export", where=str(output), remedy="let it end, and run this again"
            ) from error
        try:
            for path in partial.iterdir():  # of a job that was killed
                remove(path)
            yield partial
            publish(output)
        except BaseException:
            remove(partial)
            raise
    finally:
        os.close(handle)


def _described(settings: ExportSettings, ordered: TableOrder) -> Sidecar:
    """What is known of an export before its rows are read."""
    table, order = ordered.table, ordered.order
    sizes = np.unique(order.steps, return_counts=True)[1]
    return Sidecar(
        digest=order.digest,
        rows=len(order),
        distinct=len(np.unique(order.rows)),
        steps=len(sizes),
        batch=int(ordered.source.get("batch") or sizes.max()),
        order=dict(ordered.source),
        table={"digest": table.digest, "fingerprint": table.fingerprint, "rows": len(table)},
        request={"to": settings.to, "columns": list(settings.columns), "unfit": settings.unfit},
        left_out=dict(ordered.left_out),
        curricle=version("curricle"),
    )


def _already(output: Path, wanted: Sidecar) -> Sidecar | None:
    """What is there if it is what is wanted. UsageError for a directory that holds anything else."""
    if not output.exists() or not any(output.iterdir()):
        return None
    there = read_sidecar(output)
    if there is None:
        raise UsageError("is not empty, and no export", where=str(output), remedy="name another directory")
    names = ("order", "table", "request")
    then, now = ({name: record[name] for name in names} for record in (there.to_json(), wanted.to_json()))
    if changed := differences(then, now):
        raise UsageError(
            "is another export:" + listed(changed),
            where=str(output),
            remedy="remove it, or name another directory",
        )
    log.info("%s: is there already", output)
    return there


def _write(
    settings: ExportSettings,
    form: ExportFormat,
    ordered: TableOrder,
    columns: Sequence[str],
    wanted: Sidecar,
    directory: Path,
) -> Sidecar:
    table, order = ordered.table, ordered.order
    fits, unfit, lost = np.ones(len(order), np.bool_), list[tuple[str, str]](), Counter[str]()
    reasons = Counter[str]()
    with writer_of(form, directory, _schema(table, form, columns)) as writer:
        at = 0
        for rows in _rows(table, order, columns, directory / SCRATCH):
            records = list[ExportRecord]()
            for row in rows:
                record, problem = _record(form, row, columns, lost)
                if record is None:
                    fits[at] = False
                    reasons[problem] += 1
                    unfit.append((row[ID], problem))
                    del unfit[10:]
                else:
                    records.append(record)
                at += 1
            if records:
                writer.write(records)
    remove(directory / SCRATCH)
    if at != len(order):
        raise UserError(
            f"{at:,} of {len(order):,} rows could be read", where=table.where, remedy="copy the table again"
        )
    if reasons and settings.unfit == "refuse":
        raise UserError(
            f"{counted(reasons.total(), 'row')} of {len(order):,} would be refused or left out by {form.trainer}"
            + listed([f"{identity} {problem}" for identity, problem in unfit]),
            where=table.where,
            remedy="--unfit leave-out exports the others, and says which are left out; or export to another format",
        )
    if not fits.any():
        raise UserError(
            f"no row is one that {form.trainer} reads", where=table.where, remedy="export to another format"
        )
    ids, steps = table.ids[order.rows[fits]], order.steps[fits]
    _write_order(table, order, fits, directory / ORDER_FILE)
    done = replace(
        wanted,
        digest=digest_of(ids, steps) if reasons else wanted.digest,
        rows=int(fits.sum()),
        distinct=len(np.unique(order.rows[fits])),
        steps=len(np.unique(steps)),
        left_out={**wanted.left_out, **{f"{form.trainer}: {reason}": rows for reason, rows in reasons.items()}},
        lost=dict(sorted(lost.items())),
    )
    write_settings(form, done, directory, settings.output)
    written = [path.relative_to(directory).as_posix() for path in (directory / "data").rglob("*") if path.is_file()]
    done = replace(done, files=sums_of(directory, [*sorted(written), ORDER_FILE]))  # settings are there to be changed
    done.write(directory)
    return done


def _rows(table: Table, order: Order, columns: Sequence[str], scratch: Path) -> Iterator[list[dict[str, Any]]]:
    extra = ["extra"] if "extra" in table.files.schema.names and "extra" not in columns else []
    names = [ID, "messages", *extra, *columns]
    lengths = table.counts("prompt_words", "response_words")[order.rows]
    for batch in in_order(table.files, table.origin[order.rows], names, lengths, scratch):
        yield batch.to_pylist()


def _record(
    form: ExportFormat, row: Mapping[str, Any], columns: Sequence[str], lost: Counter[str]
) -> tuple[ExportRecord | None, str]:
    """The record of a row, or why there is none."""
    example = Example.of(row["messages"], row.get("extra"))
    if example.remark and not example.messages:
        return None, example.remark
    roles = [turn["role"] for turn in example.messages]
    context = context_turns(roles, example.extra)
    problem = form.problem(example.messages)
    if context and len(context) == roles.count(RESPONSE_ROLE) and not form.extra:
        problem = problem or NOTHING_LEARNT  # such as answers labelled bad: learnt, or left out by the loader
    if problem:
        return None, problem
    record = form.record(example.messages) | {ID: row[ID]}
    if context:
        for index in context if form.flag else ():
            record["messages"][index][form.flag] = False
        if not form.flag:
            lost[CONTEXT_IN_EXTRA if form.extra else CONTEXT] += 1
    if form.extra:
        record["extra"] = example.extra
    elif example.extra and "extra" not in columns:
        shown = any("input" in turn for turn in with_input(example.messages, example.extra))  # stands in its question
        lost.update(f"extra.{key}" for key in json.loads(example.extra) if not (key == "input" and shown))
    return record | {name: row[name] for name in columns}, ""


def _columns(table: Table, form: ExportFormat, names: Sequence[str]) -> list[str]:
    """The columns that go along. UsageError for one that is not there, or that a format has a field for."""
    schema = table.files.schema
    own = {*form.fields, ID, *(["extra"] if form.extra else [])}
    for name in names:
        if name not in schema.names:
            if name in table.columns:
                raise UsageError(
                    f"column {name!r} stands in a joined file",
                    where=table.where,
                    remedy="leave it out: columns of the table itself go along",
                )
            raise missing_column(name, schema.names, table.where)
        if name in own:
            raise UsageError(f"column {name!r} is a field of {form.name}", remedy="leave it out")
        if not _is_plain(schema.field(name).type):
            raise UsageError(
                f"column {name!r} holds {schema.field(name).type}", remedy="name columns of numbers or texts"
            )
    return list(names)


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_plain(kind.value_type)
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
    )
    return any(test(kind) for test in tests)


def _schema(table: Table, form: ExportFormat, columns: Sequence[str]) -> pa.Schema:
    """Of the records, as Parquet has them."""
    own = [pa.field("messages", MESSAGES), pa.field(ID, pa.string())]
    extra = [pa.field("extra", pa.string())] if form.extra else []
    return pa.schema([*own, *extra, *(table.files.schema.field(name) for name in columns)])


def _write_order(table: Table, order: Order, fits: np.ndarray[Any, np.dtype[np.bool_]], path: Path) -> None:
    """One row for each that is exported, as in ``plan.parquet``."""
    visits = np.flatnonzero(fits)
    rows, steps, stages = order.rows[visits], order.steps[visits], order.stages[visits]
    begins = np.concatenate([[0], np.flatnonzero(np.diff(steps)) + 1])
    positions = np.arange(len(visits)) - np.repeat(begins, np.diff([*begins, len(visits)]))
    with pq.ParquetWriter(path, PLAN, compression="zstd") as writer:
        for start in range(0, len(visits), CHUNK):
            part = slice(start, start + CHUNK)
            choices = [order.choices[stage] for stage in stages[part].tolist()]
            writer.write_table(columns_of_plan(table, rows[part], steps[part], positions[part], stages[part], choices))
