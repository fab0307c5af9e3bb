"""From bytes to normalised examples, a shard at a time, and what of their scores a table holds."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import apache_beam as beam
import numpy as np
import pyarrow as pa
from curricle.curate.readers import read
from curricle.curate.readers.examples import Normalised, normalise_records
from curricle.pipelines.scoring.inputs import open_input
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.plan import Shard
from curricle.pipelines.scoring.stored import RowScores, StoredTable, notes_of_reading, scores_of
from curricle.pipelines.transforms.shards import ShardBatch, ShardRun, portions
from curricle.schemas.table import EXAMPLES, REJECTS

OwnScores = list[tuple[str, RowScores]] | None
"""The scores by metric that rows of a table have; None for records of a file."""


class ReadShards(beam.PTransform[beam.PCollection[ShardRun], beam.PCollection[ShardBatch]]):
    """``ShardRun`` → ``ShardBatch``: every record ends in the batch or among its rejects."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.read = partial(read_run, job)

    def expand(self, runs: beam.PCollection[ShardRun]) -> beam.PCollection[ShardBatch]:
        return runs | beam.FlatMap(self.read)


def read_run(job: Job, run: ShardRun) -> Iterator[ShardBatch]:
    """Read consecutive shards of one source, opening it once and moving forward only."""
    if run.shards[0].in_table:
        assert job.earlier
        parts = _of_table(job.earlier, run.shards)
    else:
        parts = _of_file(job, run.shards)
    started = time.monotonic()
    for shard, (normalised, own) in zip(run.shards, parts, strict=True):
        yield _divided(job, shard, normalised, own, started)
        started = time.monotonic()


def _of_file(job: Job, shards: Sequence[Shard]) -> Iterator[tuple[Normalised, OwnScores]]:
    """``job.cwd`` is where the names of files mean what the user meant: a worker may stand somewhere else."""
    path, slices = shards[0].opened, [shard.slice for shard in shards]
    opened = read(lambda: open_input(path, job.cwd), path, slices, job.settings.max_record_bytes, job.readers)
    return ((normalise_records(records, shards[0].source, job.format, job.rules), None) for _, records in opened)


def _of_table(table: StoredTable, shards: Sequence[Shard]) -> Iterator[tuple[Normalised, OwnScores]]:
    """Rows and rejects that an earlier table has of a source, under the name that it has now, and their scores.

    ``start`` and ``stop`` of a slice are rows of that table, ``first_record`` is the number of its records before.
    """
    slices = [shard.slice for shard in shards]
    rows = np.concatenate([np.arange(part.start, part.stop) for part in slices])
    groups = (group for _, group in table.reader.rows(rows))
    rejected = REJECTS.empty_table()
    if any(part.records > part.stop - part.start for part in slices):
        rejected = pa.concat_tables([rejected, *table.reader.rejected(REJECTS)])
    waiting = table.reader.schema.empty_table().replace_schema_metadata()
    for shard, part in zip(shards, slices, strict=True):
        count = part.stop - part.start
        while waiting.num_rows < count:
            waiting = pa.concat_tables([waiting, next(groups).replace_schema_metadata()])
        there, waiting = waiting.slice(0, count), waiting.slice(count)
        examples = _named(there.select(EXAMPLES.names), shard.source, EXAMPLES)
        rejects = _named(rejected.slice(part.first_record - part.start, part.records - count), shard.source, REJECTS)
        notes = tuple(notes_of_reading(there, table.reader.scores))
        yield Normalised(examples, rejects, notes), scores_of(there, table.metrics)


def _named(rows: pa.Table, source: str, schema: pa.Schema) -> pa.Table:
    columns = {**dict(zip(rows.column_names, rows.columns, strict=True)), "source": pa.array([source] * rows.num_rows)}
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _divided(job: Job, shard: Shard, normalised: Normalised, own: OwnScores, started: float) -> ShardBatch:
    """A shard with the scores that tables hold, and portions of what is left to be computed."""
    examples, rejects, notes = normalised
    metrics = [each.name for each in job.references]
    lacking = {metric: np.arange(examples.num_rows) for metric in metrics}
    copied: list[tuple[str, RowScores]] = []
    of_row: dict[int, list[str]] = {}
    for row, text in notes if job.stored else ():
        of_row.setdefault(row, []).append(text)

    def take(scores: Sequence[tuple[str, RowScores]]) -> None:
        for metric, each in scores:
            lacking[metric] = np.setdiff1d(lacking[metric], each.rows, assume_unique=True)
        copied.extend(scores)

    take(own or [])
    for table in job.stored:
        take(table.scores(examples, of_row, lacking))
    noted = {} if own is not None else dict(Counter(text for _, text in notes))
    left = portions(examples, metrics, lacking)
    return ShardBatch(shard, examples, rejects, started, left, tuple(copied), notes=notes, noted=noted)
