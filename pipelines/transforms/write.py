"""Write a shard's file whole, and then its receipt."""

import time
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from curricle.curate.scoring import with_scores
from curricle.pipelines.scoring.meter import Meter
from curricle.pipelines.scoring.receipts import Receipt
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.transforms.shards import ShardBatch
from curricle.schemas.sums import sha256_of


class WriteShards(beam.PTransform[beam.PCollection[ShardBatch], beam.PCollection[int]]):
    """``ShardBatch`` → the index of each shard whose receipt is on disk."""

    def __init__(self, directory: OutputDirectory, schema: pa.Schema, run: str, meter: Meter) -> None:
        super().__init__()
        self.writer = ShardWriter(directory, schema, run, meter)

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[int]:
        return batches | beam.Map(self.writer.write)


@dataclass
class ShardWriter:
    """Commits shards under one run's hold of the directory."""

    directory: OutputDirectory
    schema: pa.Schema
    run: str
    meter: Meter

    def write(self, element: ShardBatch) -> int:
        index = element.shard.index
        table = with_scores(element.examples, dict(element.scores), element.notes, self.schema)
        files = {self.directory.shard(index): table}
        if element.rejects.num_rows:
            files[self.directory.shard_rejects(index)] = element.rejects
        self.directory.check_held_by(self.run)
        digests = {}
        for path, table in files.items():
            with self.directory.storage.writing(path) as beside:
                _write_arrow(table, beside)
                digests[path.rpartition("/")[2]] = sha256_of(beside)
        receipt = Receipt(
            shard=index,
            source=element.shard.source,
            read=element.shard.slice.records,
            scored=element.examples.num_rows,
            rejected=element.rejects.num_rows,
            reused=element.reused,
            tokens=element.tokens,
            noted=dict(element.noted),
            files=digests,
            seconds=round(time.monotonic() - element.started, 3),
            run=self.run,
        )
        self.directory.check_held_by(self.run)
        self.directory.write_sealed(self.directory.receipt(index), receipt.model_dump())
        self.meter.add(rows=element.shard.slice.records, rejects=element.rejects.num_rows)
        return index


def _write_arrow(table: pa.Table, path: Path) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
