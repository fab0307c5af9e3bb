"""What travels down the chain: a shard, its examples in Arrow, and what was rejected."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from zlib import compress, decompress

import numpy as np
import pyarrow as pa
from curricle.curate.batch import Batch
from curricle.curate.readers import Slice
from curricle.pipelines.scoring.plan import Shard
from curricle.pipelines.scoring.stored import RowScores
from numpy.typing import NDArray

MOST_RUNS = 1024
"""Of a job whose engine holds them all in this process, about. With more shards, a run has several."""


@dataclass(frozen=True)
class ShardRun:
    """Shards of one source, in order, read in one pass. It travels packed: there may be very many."""

    shards: tuple[Shard, ...]

    def __reduce__(self) -> tuple[Callable[..., "ShardRun"], tuple[object, ...]]:
        shards, first = self.shards, self.shards[0]
        numbers = np.array([(shard.index, *shard.slice[1:]) for shard in shards], np.int64)
        packed = compress(np.diff(numbers, axis=0, prepend=0).T.tobytes())
        layouts = [(layout, len([*of])) for layout, of in groupby(shard.slice.layout for shard in shards)]
        return _unpacked, (first.source, first.path, first.in_table, layouts, packed)


def _unpacked(source: str, path: str, in_table: bool, layouts: Sequence[tuple[str, int]], packed: bytes) -> ShardRun:
    of_slice = [layout for layout, count in layouts for _ in range(count)]
    numbers = np.frombuffer(decompress(packed), np.int64).reshape(-1, len(of_slice)).cumsum(axis=1).T.tolist()
    return ShardRun(
        tuple(
            Shard(index, source, Slice(layout, *lies), path, in_table)
            for layout, (index, *lies) in zip(of_slice, numbers, strict=True)
        )
    )


@dataclass(frozen=True)
class Portion:
    """NDArray[np.int64] of a shard that lack the scores of the same metrics, and the batch that they are."""

    rows: NDArray[np.int64]
    metrics: frozenset[str]
    batch: Batch


@dataclass(frozen=True)
class ShardBatch:
    """One shard on its way: what was read of it, when (``time.monotonic``), what is to be computed, and the scores."""

    shard: Shard
    examples: pa.Table
    rejects: pa.Table
    started: float
    portions: tuple[Portion, ...] = ()
    copied: tuple[tuple[str, RowScores], ...] = ()
    """Scores by metric that a table holds."""
    scores: tuple[tuple[str, pa.Array], ...] = ()
    notes: tuple[tuple[int, str], ...] = ()
    tokens: int = 0
    noted: Mapping[str, int] = field(default_factory=dict)
    """On how many rows reading left each of its notes."""

    def with_batches(self, made_of: Callable[[Portion], Batch]) -> "ShardBatch":
        return replace(self, portions=tuple(replace(portion, batch=made_of(portion)) for portion in self.portions))

    @property
    def reused(self) -> int:
        """How many rows have a score that was copied."""
        return len({row for _, each in self.copied for row in each.rows.tolist()})


def portions(
    examples: pa.Table, metrics: Sequence[str], lacking: Mapping[str, NDArray[np.int64]]
) -> tuple[Portion, ...]:
    """The rows in groups that lack the same metrics; all of them in one where nothing is copied."""
    lacks = np.zeros((examples.num_rows, len(metrics)), bool)
    for index, metric in enumerate(metrics):
        lacks[lacking[metric], index] = True
    if lacks.all():
        return (Portion(np.arange(examples.num_rows), frozenset(metrics), Batch(examples)),)
    patterns, which = np.unique(lacks, axis=0, return_inverse=True)
    return tuple(
        Portion(
            rows := np.flatnonzero(which.ravel() == index),
            frozenset(metric for metric, lack in zip(metrics, pattern, strict=True) if lack),
            Batch(examples if len(rows) == examples.num_rows else examples.take(pa.array(rows))),
        )
        for index, pattern in enumerate(patterns)
        if pattern.any()
    )


def shard_runs(
    shards: Sequence[Shard], workers: int, seekable: Collection[str], most: int = MOST_RUNS
) -> list[ShardRun]:
    """Group shards into runs: one shard each where a file can be entered anywhere, else a run a worker.

    A compressed stream is read from its start to reach any position in it; with a run a worker that costs at
    most one extra pass of decompression a worker, instead of one a shard. Of more shards than ``most`` several are a
    run, but a worker has sixteen runs at least.
    """
    runs: list[ShardRun] = []
    several = -(-len(shards) // max(most, 16 * workers))
    for source, group in groupby(shards, key=lambda shard: shard.source):
        pending = list(group)
        length = several if source in seekable else -(-len(pending) // workers)
        runs += [ShardRun(tuple(pending[at : at + length])) for at in range(0, len(pending), length)]
    return runs
