"""From bytes to normalised examples, a shard at a time."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import apache_beam as beam
from curricle.curate.batch import Batch
from curricle.curate.formats import Format
from curricle.curate.readers import Reader, read
from curricle.curate.readers.examples import normalise_records
from curricle.pipelines.scoring.inputs import open_input
from curricle.pipelines.transforms.shards import ShardBatch, ShardRun


class ReadShards(beam.PTransform[beam.PCollection[ShardRun], beam.PCollection[ShardBatch]]):
    """``ShardRun`` → ``ShardBatch``: every record ends in the batch or among its rejects.

    ``cwd`` is where the names of files mean what the user meant: a worker may stand somewhere else.
    """

    def __init__(self, format: Format | None, readers: Sequence[Reader], max_record_bytes: int, cwd: str) -> None:
        super().__init__()
        self.read = partial(read_run, format=format, readers=readers, max_record_bytes=max_record_bytes, cwd=cwd)

    def expand(self, runs: beam.PCollection[ShardRun]) -> beam.PCollection[ShardBatch]:
        return runs | beam.FlatMap(self.read)


def read_run(
    run: ShardRun, format: Format | None, readers: Sequence[Reader], max_record_bytes: int, cwd: str
) -> Iterator[ShardBatch]:
    """Read consecutive shards of one file, opening it once and moving forward only."""
    source, path = run.shards[0].source, run.shards[0].opened
    slices = [shard.slice for shard in run.shards]
    opened = read(lambda: open_input(path, cwd), path, slices, max_record_bytes, readers)
    for shard, (_, records) in zip(run.shards, opened, strict=True):
        started = time.monotonic()
        examples, rejects, notes = normalise_records(records, source, format)
        noted = dict(Counter(note for _, note in notes))
        yield ShardBatch(shard, Batch(examples), rejects, started, notes=notes, noted=noted)
