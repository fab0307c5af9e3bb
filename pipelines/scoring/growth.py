"""What a job has to do in its output directory: all of it, the rest of it, or what a finished table lacks.

A table grows by a plan of its own, as any other: the sources that it has come first, read from the table itself and not
from their files, which may be gone; then what is new. A shard of theirs has all scores that the table has, and the
others are computed. The old table stays until the new one is whole, as with ``--overwrite``.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from curricle.curate.metrics import REGISTRY
from curricle.curate.metrics.lp import METRIC as LP
from curricle.curate.readers import Slice
from curricle.curate.readers.inputs import InputFile
from curricle.pipelines.scoring.cost import rows_of_shard, survey_limits
from curricle.pipelines.scoring.inputs import content_sha256
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.plan import (
    InputMatch,
    PlannedSource,
    ScoringPlan,
    is_longer,
    match_inputs,
    read_plan,
    require_records,
    survey_inputs,
)
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.reader import TableReader
from curricle.pipelines.tables.recorded import is_finished, is_there
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.log import printable
from curricle.schemas.common.wording import counted, listed
from curricle.schemas.fingerprint import differences
from curricle.schemas.identity import of_columns
from curricle.schemas.manifest import MANIFEST, NotRead
from curricle.schemas.table import REJECTS
from numpy.typing import NDArray

log = logging.getLogger("curricle")


def metrics_there(directory: OutputDirectory) -> list[str]:
    """The metrics of ours that the finished table in the directory has; none if there is no table."""
    if not directory.storage.exists(MANIFEST):
        return []
    there = {column.metric for column in TableReader(directory.path).scores.values()}
    return [name for name in REGISTRY if name in there and name != LP.name]


def plan_job(
    directory: OutputDirectory, job: Job, files: Sequence[InputFile], not_read: Sequence[NotRead]
) -> ScoringPlan | None:
    """What this job is to make of the directory: the plan that lies there, if it is this job's, or a new one.

    None if the table that is there has all that is asked for. UsageError, naming what differs, if another table or
    another job's work is there that is to stay as it is.
    """
    settings = job.settings
    try:
        recorded = read_plan(directory)
    except UsageError:
        if not settings.overwrite and not (settings.grows and is_finished(directory)):
            raise
        recorded = None
    grows = settings.grows and directory.storage.exists(MANIFEST) and is_finished(directory)
    if recorded is None:
        return _grown(directory, job, files, not_read, None) if grows else _survey(job, files, not_read)
    match = match_inputs(recorded.sources, files, job.readers)
    made_otherwise = [*job.changes(recorded.identity), *differences(recorded.reading, job.reading)]
    differ = [*made_otherwise, *_inputs_differ(recorded, match, files, settings.grows)]
    if grows and (made_otherwise or match.new or match.changed):
        return _grown(directory, job, files, not_read, recorded)
    if settings.append and match.new and not differ:  # a job that was killed, and more has come since
        log.info("new since the job began, and taken in: %s", ", ".join(printable(file.name) for file in match.new))
        new = _with_own_names(match, {source.file.name for source in recorded.sources})
        return replace(recorded, sources=(*located(recorded, match), *_surveyed(job, new)))
    differ += [] if settings.append else [f"{file.name}: is new" for file in match.new]
    # what is to be made again because it is damaged cannot be made of itself
    again = settings.overwrite and (differ or (recorded.earlier and not is_there(directory, overwrite=True)))
    if again:
        return _survey(job, files, not_read)
    if differ and not grows:
        if settings.append and not made_otherwise and _has_earlier(directory, recorded):
            log.warning("the input changed since the job began, and what it finished is made again:%s", listed(differ))
            return _grown(directory, job, files, not_read, recorded)
        raise other_table(directory, job, differ)
    return replace(recorded, sources=located(recorded, match))


def _has_earlier(directory: OutputDirectory, plan: ScoringPlan) -> bool:
    """Whether the table lies in the directory to which the plan adds."""
    there = bool(plan.earlier) and directory.storage.exists(MANIFEST)
    return there and TableReader(directory.path).manifest_sha256 == plan.earlier


def unchanged(plan: ScoringPlan, job: Job, files: Sequence[InputFile]) -> list[str]:
    """One line for each input that is not as the plan has it. Those that rows of a table stand for are not read."""
    match = match_inputs(plan.sources, files, job.readers)
    differ = _inputs_differ(plan, match, files, job.settings.grows)
    return differ + ([] if job.settings.append else [f"{file.name}: is new" for file in match.new])


def _inputs_differ(plan: ScoringPlan, match: InputMatch, files: Sequence[InputFile], grows: bool) -> list[str]:
    """One line for each input of a plan that is another one now. What is new is for the caller to judge."""
    read = replace(
        match,
        new=[],
        gone=[source for source in match.gone if not (grows and source.in_table)],
        changed=[(source, file) for source, file in match.changed if not (grows and source.in_table)],
    )
    lines = read.changes()
    order = [match.there[source.file.name].name for source in plan.sources if source.file.name in match.there]
    if not lines and not grows and order != [file.name for file in files if file.name in {*order}]:
        lines.append("the inputs are in another order")
    return lines


def located(plan: ScoringPlan, match: InputMatch) -> tuple[PlannedSource, ...]:
    """The sources of a plan, with the paths at which they lie now."""
    return tuple(
        replace(source, path=match.there[source.file.name].path) if source.file.name in match.there else source
        for source in plan.sources
    )


def _with_own_names(match: InputMatch, others: Collection[str]) -> list[InputFile]:
    """The files that are new. One with a name of ``others`` gets more of its path for its own, or else its digest."""
    names = {*others, *(file.name for file in match.new), *(file.name for file in match.there.values())}
    files = []
    for file in match.new:
        if file.name in others:
            own, steps = PurePath(file.name).parts, PurePath(file.location).parts
            longer = ("/".join(steps[-count:]) for count in range(len(own) + 1, len(steps) + 1))
            name = next((name for name in longer if name not in names), "")
            name = name or _with_digest(file.name, content_sha256(file.path, file.bytes, file.modified))
            names.add(name)
            file = replace(file, name=name, location=file.location or file.name)
        files.append(file)
    return files


def _with_new_names(
    sources: Sequence[PlannedSource], match: InputMatch, new: Iterable[InputFile]
) -> list[PlannedSource]:
    """The sources of a table; those whose name another file has now are called what their own is called now.

    Where one rotates its files, each name goes to the next, and that of the last one, which is gone, has its digest.
    """
    now = {source.file.name: _file_now(source, match) for source in sources}
    wanted = {file.name for file in new}
    moved: dict[str, InputFile] = {}
    while passed := {old: file for old, file in now.items() if old in wanted and old not in moved}:
        moved |= passed
        wanted |= {file.name for file in passed.values()}
    return [replace(source, file=moved.get(source.file.name, source.file)) for source in sources]


def _file_now(source: PlannedSource, match: InputMatch) -> InputFile:
    """A source's file as it is called now, and where it lies; with its digest in its name if it is gone."""
    there = match.there.get(source.file.name)
    if there is None:
        return replace(source.file, name=_with_digest(source.file.name, source.sha256))
    return replace(source.file, name=there.name, location=there.location)


def _with_digest(name: str, sha256: str) -> str:
    """The name, which ends as before, for that says how a file is read."""
    folder, slash, file = name.rpartition("/")
    stem, dot, ending = file.partition(".")
    return f"{folder}{slash}{stem}@{sha256[:8]}{dot}{ending}"


def other_table(directory: OutputDirectory, job: Job, differ: Sequence[str]) -> UsageError:
    if job.settings.append:
        grow = "give a file whose content is another one a name of its own; --metrics +NAME adds columns"
        again = f"make it again as its input is now, with --overwrite --reuse {directory.path} instead of --append"
    else:
        grow = (
            "add --append to score inputs that are new, or --metrics +NAME for columns that are: what is there is kept"
        )
        again = "add --overwrite"
    return UsageError(
        "holds another job's scores; these differ:" + listed(differ, 1000),
        where=directory.path,
        remedy=f"{grow}; or name another --output, and with --reuse this table: what is alike is copied; or {again}: a "
        "finished table stays until the new one is whole",
    )


def _survey(job: Job, files: Sequence[InputFile], not_read: Sequence[NotRead]) -> ScoringPlan:
    surveying = {"phase": "surveying", "files": len(files)}
    log.info("surveying %s", counted(len(files), "file"), extra={"figures": surveying})
    sources = tuple(_surveyed(job, files))
    require_records(sources)
    plan = ScoringPlan(job.fingerprint, job.identity, job.reading, sources, tuple(not_read))
    figures = {"records": plan.records, "files": len(sources), "shards": len(plan.shards)}
    words = (counted(number, noun) for number, noun in zip(figures.values(), ("record", "file", "shard"), strict=True))
    log.info("%s in %s, %s", *words, extra={"figures": figures})
    return plan


def _surveyed(job: Job, files: Iterable[InputFile]) -> Iterable[PlannedSource]:
    for path in job.settings.reuse:  # what is no table is found before the inputs are read
        _ = TableReader(path).manifest
    return survey_inputs([*files], job.format, job.readers, *survey_limits(job), job.rules)


def _grown(
    directory: OutputDirectory,
    job: Job,
    files: Sequence[InputFile],
    not_read: Sequence[NotRead],
    recorded: ScoringPlan | None,
) -> ScoringPlan | None:
    """The plan for a table with what the finished one has, and what it lacks."""
    table, settings = TableReader(directory.path), job.settings
    if table.manifest.selected_from or table.manifest.total.left_out:
        raise UsageError(
            "holds a selection, and the rows that it leaves out would come back",
            where=directory.path,
            remedy="let the table grow that it was selected from, and select again; `curricle add` adds columns alone",
        )
    new_columns = [column.name for column in job.columns if column.name not in table.scores]
    differ = _made_otherwise(table, job) + (differences(recorded.reading, job.reading) if recorded else [])
    if new_columns and not settings.adds_columns:
        differ.append(f"columns {', '.join(new_columns)}: not there, and now")
    held, records = sum(source.bytes for source in table.manifest.sources), table.manifest.total.read
    computed = {column.metric for column in job.columns if column.name in new_columns}
    rest = replace(job, references=tuple(each for each in job.references if each.name in computed))
    sources = _sources(table, rows_of_shard(rest, held / max(1, records)), recorded)
    match = match_inputs(sources, files, job.readers)
    longer = {source.file.name: file for source, file in match.changed if settings.append and is_longer(source, file)}
    changed = [pair for pair in match.changed if pair[1].name not in longer]
    gone = {source.file.name for source in sources if source.file.name not in match.there}
    new = _with_own_names(match, gone) if settings.append else []
    differ += replace(match, new=[] if settings.append else match.new, gone=[], changed=changed).changes()
    if differ:
        raise other_table(directory, job, differ)
    if not (new or longer or new_columns):
        return None
    read = {source.file.name: source for source in _surveyed(job, [*longer.values(), *new])}
    stay = _with_new_names(sources, match, new)
    whole = [*(read.pop(source.file.name) if source.file.name in longer else source for source in stay), *read.values()]
    left_out = {*table.manifest.not_read, *not_read}
    plan = ScoringPlan(
        job.fingerprint, job.identity, job.reading, tuple(whole), tuple(sorted(left_out)), table.manifest_sha256
    )
    fresh = [source for source in whole if not source.in_table]
    log.info(
        "%s stay as they are; new: %s in %s%s",
        counted(plan.records - sum(source.records for source in fresh), "record"),
        counted(sum(source.records for source in fresh), "record"),
        counted(len(fresh), "file"),
        f"; columns that are new: {', '.join(new_columns)}" if new_columns else "",
    )
    return plan


def _made_otherwise(table: TableReader, job: Job) -> list[str]:
    """One line for each thing in which the columns of a table, and how its records were read, are not the job's."""
    now, there = {column.name: column for column in job.columns}, table.scores
    lines = [
        f"column {name}: of the metric {column.metric}, which --metrics does not name, or another command added it"
        for name, column in there.items()
        if name not in now
    ]
    lines += of_columns({name: there[name].changes(now[name]) for name in there if name in now})
    if reading := table.manifest.identity.get("reading"):
        return lines + differences({"reading": reading}, {"reading": job.identity["reading"]})
    return [*lines, "reading: how its records became rows is not in the table, as in none of contract 1"]


def _sources(table: TableReader, shard_rows: int, recorded: ScoringPlan | None) -> list[PlannedSource]:
    """The sources of a table, in slices of their rows in it.

    ``start`` and ``stop`` of a slice are rows of the table, and ``first_record`` is the number of the records before,
    in all sources. UserError if rows do not lie in the order of the sources.
    """
    rejects = pa.concat_tables([REJECTS.empty_table(), *table.rejected(REJECTS)])
    scored = _positions(table, table.groups(["source", "source_position"]), "scored")
    rejected = _positions(table, [rejects], "rejected")
    files = {(each.file.name, each.sha256): each.file for each in recorded.sources} if recorded else {}
    sources, records, rows = [], 0, 0
    for index, source in enumerate(table.manifest.sources):
        both = np.concatenate([scored[index], rejected[index]])
        order = np.argsort(both, kind="stable")
        ends = np.concatenate([[0], np.cumsum(order < len(scored[index]))])
        slices = []
        for begin in range(0, len(both), shard_rows):
            end = min(begin + shard_rows, len(both))
            lies = records + begin, end - begin, rows + int(ends[begin]), rows + int(ends[end])
            slices.append(Slice("table", *lies, int(both[order[begin]])))
        file = files.get((source.source, source.sha256), InputFile(source.source, source.bytes, 0.0))
        sources.append(PlannedSource(file, source.sha256, source.read, slices, in_table=True))
        records, rows = records + len(both), rows + len(scored[index])
    return sources


def _positions(table: TableReader, parts: Iterable[pa.Table], kind: str) -> list[NDArray[np.int64]]:
    """The positions of each source's rows, in the order of the sources."""
    positions, lengths = [np.empty(0, np.int64)], list[tuple[str, int]]()
    for part in parts:
        positions.append(part["source_position"].to_numpy())
        for chunk in part["source"].chunks:
            runs = pc.run_end_encode(chunk)
            stops = runs.run_ends.to_pylist()
            for name, start, stop in zip(runs.values.to_pylist(), [0, *stops], stops, strict=False):
                before = lengths.pop()[1] if lengths and lengths[-1][0] == name else 0
                lengths.append((name, before + stop - start))
    counts = [(each.source, getattr(each, kind)) for each in table.manifest.sources]
    if lengths != [pair for pair in counts if pair[1]]:
        raise UserError(
            "the rows do not lie in the order of their sources",
            where=printable(table.path),
            remedy="run `curricle verify` on the table",
        )
    ends = np.cumsum([count for _, count in counts])
    return np.split(np.concatenate(positions), ends[:-1])
