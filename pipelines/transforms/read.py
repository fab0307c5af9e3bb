"""From bytes to normalised examples, a shard at a time."""

import json
import time
from collections import Counter
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
from curricle.curate.batch import Batch
from curricle.curate.formats import Conversation, Format, FormatError, normalise
from curricle.curate.readers import Record, read
from curricle.pipelines.scoring.inputs import open_input
from curricle.pipelines.transforms.shards import ShardBatch, ShardRun
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import EXAMPLES, REJECTS


class ReadShards(beam.PTransform):
    """``ShardRun`` → ``ShardBatch``: every record ends in the batch or among its rejects.

    ``cwd`` is where the names of files mean what the user meant: a worker may stand somewhere else.
    """

    def __init__(self, format: Format | None, max_record_bytes: int, cwd: str) -> None:
        super().__init__()
        self.format, self.max_record_bytes, self.cwd = format, max_record_bytes, cwd

    def expand(self, runs: beam.PCollection[ShardRun]) -> beam.PCollection[ShardBatch]:
        return runs | beam.FlatMap(read_run, self.format, self.max_record_bytes, self.cwd)


def read_run(run: ShardRun, format: Format | None, max_record_bytes: int, cwd: str) -> Iterator[ShardBatch]:
    """Read consecutive shards of one file, opening it once and moving forward only."""
    source, place = run.shards[0].source, run.shards[0].opened
    slices = [shard.slice for shard in run.shards]
    opened = read(lambda: open_input(place, cwd), place, slices, max_record_bytes)
    for shard, (_, records) in zip(run.shards, opened, strict=True):
        started = time.monotonic()
        examples: list[tuple] = []
        rejects: list[tuple] = []
        notes: list[tuple[int, str]] = []
        for record in records:
            conversation = _normalise(record, format)
            if isinstance(conversation, str):
                rejects.append((source, record.position, conversation, record.raw))
            else:
                notes += [(len(examples), note) for note in conversation.notes]
                examples.append(_example(source, record.position, conversation))
        batch, rejected = Batch(_table(examples, EXAMPLES)), _table(rejects, REJECTS)
        noted = dict(Counter(note for _, note in notes))
        yield ShardBatch(shard, batch, rejected, started, notes=tuple(notes), noted=noted)


def _normalise(record: Record, format: Format | None) -> Conversation | str:
    """The conversation, or the reason why there is none."""
    if record.reason is not None:
        return record.reason
    try:
        return normalise(record.value, format)
    except FormatError as error:
        return str(error)
    except RecursionError:  # text inside a record may hold JSON of its own, deeper than the record's limit
        return "nested too deeply"


def _example(source: str, position: int, conversation: Conversation) -> tuple:
    extra = json.dumps(conversation.extra, ensure_ascii=False, allow_nan=False) if conversation.extra else None
    turns = [{"role": role, "content": content} for role, content in conversation.messages]
    return example_id(conversation.messages, conversation.extra), source, position, turns, extra


def _table(rows: list[tuple], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
