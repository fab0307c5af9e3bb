"""Parts depend on the rows alone."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.pipelines.scoring.compact import ShardFile, compact
from curricle.pipelines.tables import writer
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.exchange import NEXT
from curricle.schemas.sums import sha256_of
from curricle.schemas.table import table_schema

SCHEMA = table_schema([ScoreColumn("loss", pa.float64(), "nats", "loss", "high", "loss", 1)], "f" * 32)


def make_rows(count: int) -> pa.Table:
    texts = [f"row {i} " + "word " * (i * 7919 % 50) for i in range(count)]
    columns = {
        "example_id": [f"{i:032x}" for i in range(count)],
        "source": ["in.jsonl"] * count,
        "source_position": list(range(count)),
        "messages": [[{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}] for text in texts],
        "extra": [None if i % 3 else "{}" for i in range(count)],
        "loss": [None if i % 5 == 0 else i / 7 for i in range(count)],
        "notes": [["loss: none"] if i % 5 == 0 else None for i in range(count)],
    }
    return pa.table(columns, schema=SCHEMA)


def write_shards(directory: OutputDirectory, table: pa.Table, rows: int) -> list:
    shards = []
    for index, start in enumerate(range(0, table.num_rows, rows)):
        part = table.slice(start, rows)
        path = Path(directory.path, directory.shard(index))
        path.parent.mkdir(parents=True, exist_ok=True)
        # the way that arrays came about (sliced, or built anew) must not show either
        part = part if index % 2 else pa.Table.from_pylist(part.to_pylist(), SCHEMA)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            writer.write_table(part)
        shards.append(ShardFile(directory.shard(index), sha256_of(path), directory.receipt(index)))
    return shards


def written(directory: OutputDirectory, shards: list, schema: pa.Schema) -> list:
    """The parts, at the paths that they have once the table is published."""
    with directory.held() as run:
        parts = compact(directory, run, "data", shards, schema)
    Path(directory.path, NEXT, "data").rename(Path(directory.path, "data"))
    return parts


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(writer, "GROUP_ROWS", 256)
    monkeypatch.setattr(writer, "GROUP_TEXT_BYTES", 30_000)
    monkeypatch.setattr(writer, "PART_BYTES", 15_000)


def test_shard_size_does_not_show(tmp_path, small_groups):
    table = make_rows(2000)
    results = []
    for rows in (7, 64, 500, 5000):
        directory = OutputDirectory(str(tmp_path / str(rows)))
        parts = written(directory, write_shards(directory, table, rows), SCHEMA)
        results.append([(part.path, part.rows, part.sha256) for part in parts])
        together = pa.concat_tables(pq.read_table(Path(directory.path, part.path)) for part in parts)
        assert together.equals(table)
    assert len(results[0]) > 1, "the test needs several parts"
    assert all(result == results[0] for result in results)


def test_long_texts_make_small_row_groups(tmp_path, small_groups):
    directory = OutputDirectory(str(tmp_path))
    (part, *_) = written(directory, write_shards(directory, make_rows(2000), 500), SCHEMA)
    groups = pq.read_metadata(tmp_path / part.path)
    assert groups.row_group(0).num_rows < 256


def test_exact_multiple_leaves_no_empty_group(tmp_path, small_groups):
    directory = OutputDirectory(str(tmp_path))
    parts = written(directory, write_shards(directory, make_rows(512), 100), SCHEMA)
    for part in parts:
        metadata = pq.read_metadata(tmp_path / part.path)
        assert all(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))


def test_no_rows_still_make_a_readable_part(tmp_path):
    directory = OutputDirectory(str(tmp_path))
    (part,) = written(directory, [], SCHEMA)
    assert pq.read_table(tmp_path / part.path).schema.equals(SCHEMA, check_metadata=True)


def test_every_column_has_statistics(tmp_path):
    directory = OutputDirectory(str(tmp_path))
    (part,) = written(directory, write_shards(directory, make_rows(100), 30), SCHEMA)
    group = pq.read_metadata(tmp_path / part.path).row_group(0)
    for index in range(group.num_columns):
        assert group.column(index).is_stats_set, group.column(index).path_in_schema
