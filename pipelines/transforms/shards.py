"""What travels down the chain: a shard, its examples in Arrow, and what was rejected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.scoring import notes_of
from curricle.pipelines.scoring.plan import Shard


@dataclass(frozen=True)
class ShardRun:
    """Consecutive shards of one file, read in one pass."""

    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class ShardBatch:
    """One shard on its way: what was read of it, when (``time.monotonic``), and the scores so far."""

    shard: Shard
    batch: Batch
    rejects: pa.Table
    started: float
    scores: tuple[tuple[str, pa.Array], ...] = ()
    notes: tuple[tuple[int, str], ...] = ()
    tokens: int = 0
    noted: Mapping[str, int] = field(default_factory=dict)
    """On how many rows reading left each of its notes."""

    def with_batch(self, batch: Batch) -> "ShardBatch":
        return replace(self, batch=batch)

    def with_scores(self, scores: Scores) -> "ShardBatch":
        """With the columns and notes of metrics."""
        return replace(self, scores=(*self.scores, *scores.columns.items()), notes=(*self.notes, *notes_of(scores)))


def shard_runs(shards: Sequence[Shard], workers: int, seekable: set[str]) -> list[ShardRun]:
    """Group shards into runs: one shard each where a file can be entered anywhere, else a run a worker.

    A compressed stream is read from its start to reach any position in it; with a run a worker that costs at
    most one extra pass of decompression a worker, instead of one a shard.
    """
    runs: list[ShardRun] = []
    for source, group in groupby(shards, key=lambda shard: shard.source):
        pending = list(group)
        length = 1 if source in seekable else -(-len(pending) // workers)
        runs += [ShardRun(tuple(pending[at : at + length])) for at in range(0, len(pending), length)]
    return runs
