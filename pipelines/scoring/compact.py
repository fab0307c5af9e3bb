"""From finished shards to the parts that a training team sees.

What comes out depends on the rows alone, not on shards, workers or engine: rows are regrouped at fixed
counts and sizes of their text, and written with fixed settings.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from curricle.pipelines.storage import in_threads
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.writer import write_parts
from curricle.schemas.common.errors import UserError
from curricle.schemas.manifest import Part
from curricle.schemas.sums import sha256_of


@dataclass(frozen=True)
class ShardFile:
    """A finished shard's file, and the digest that its receipt has of it."""

    name: str
    sha256: str
    receipt: str


def compact(
    directory: OutputDirectory, run: str, folder: str, shards: Iterable[ShardFile], schema: pa.Schema
) -> list[Part]:
    """Write the rows of shard files, in order, as ``write_parts`` does.

    UserError if a shard is not as it was written: its receipt is withdrawn, so that the same command scores it again.
    """
    return write_parts(directory, run, folder, _tables(directory, shards, schema), schema)


def _tables(directory: OutputDirectory, shards: Iterable[ShardFile], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of each shard. The next ones are fetched, and held to their digests, in the meantime."""
    ahead: set[ExitStack] = set()

    def fetch(shard: ShardFile) -> tuple[Path, ExitStack]:
        path, local = _as_written(directory, shard)
        ahead.add(local)
        return path, local

    try:
        with closing(in_threads(fetch, shards)) as fetched:
            for path, local in fetched:
                with local, pa.memory_map(str(path)) as source:
                    reader = pa.ipc.open_file(source)
                    for index in range(reader.num_record_batches):
                        batch = reader.get_batch(index)
                        assert batch.schema.equals(schema), f"{path} was written with other columns"
                        # the file-level metadata (fingerprint, contract) is that of the table, not of a shard
                        yield pa.Table.from_arrays(batch.columns, schema=schema)
                ahead.discard(local)
    finally:
        for local in ahead:
            local.close()


def _as_written(directory: OutputDirectory, shard: ShardFile) -> tuple[Path, ExitStack]:
    """The file as a local path, and what that goes with."""
    with ExitStack() as local:
        try:
            path = local.enter_context(directory.storage.local(shard.name))
        except (FileNotFoundError, UserError) as error:
            if directory.storage.exists(shard.name):
                raise
            raise _withdrawn(directory, shard, "a file of a finished shard is gone") from error
        if sha256_of(path) != shard.sha256:
            raise _withdrawn(directory, shard, "the bytes of a finished shard are not those that were written")
        return path, local.pop_all()


def _withdrawn(directory: OutputDirectory, shard: ShardFile, found: str) -> UserError:
    directory.storage.remove(shard.receipt)
    remedy = "check the disk; the same command scores this shard again"
    return UserError(found, where=directory.storage.uri(shard.name), remedy=remedy)
