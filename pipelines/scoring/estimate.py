"""What a scoring job will take, from a short sample of the real passes over rows of its own."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import pyarrow as pa
from curricle.curate.progress import NoProgress
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.readers import read
from curricle.curate.readers.examples import normalise_records
from curricle.pipelines.scoring.inputs import open_input
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.plan import Shard
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.common.dry_run import SECONDS, Interval, PeakMemory
from curricle.schemas.table import EXAMPLES

_SHARDS, _ROWS = 8, 8
"""How many shards are looked into, and how many rows of each."""


@dataclass(frozen=True)
class Estimate:
    """For ``rows`` records, by the examples with these ``ids``, beside which ``rejected`` records were none.

    ``tokens``: in all, as the proxy reads them; None where no metric asks it. ``seconds``: of all passes in one process
    of this machine; the models took ``loading`` before.
    """

    rows: int
    ids: Sequence[str]
    rejected: int
    tokens: Interval | None
    seconds: Interval
    loading: float
    memory: PeakMemory

    @property
    def sampled(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Sample:
    """Some examples of ``rows`` records; how many of the records beside them were none; seconds to read all that."""

    rows: int
    examples: pa.Table
    rejected: int
    seconds: float

    @property
    def read(self) -> int:
        """How many records were looked at."""
        return len(self.examples) + self.rejected

    @property
    def expected(self) -> float:
        """How many of all records are examples, by those that were looked at."""
        return self.rows * len(self.examples) / self.read


def estimate(job: Job, of: Sample) -> Estimate:
    """Score a sample with the job's own models. Errors are those of the real job."""
    examples = of.examples
    began = time.monotonic()
    if job.asks_model:
        job.models.claim()
    models = job.load()
    loading = time.monotonic() - began
    tokens = _tokens(models["renderer"], examples, of.rows) if "renderer" in models else None
    seconds = Interval(0, 0)
    if len(examples):
        reading = of.seconds / of.read
        each = Interval.of_parts(_measured(job, examples)) + Interval(reading, reading)
        seconds = each * of.expected
    ids = examples["example_id"].to_pylist()
    return Estimate(of.rows, ids, of.rejected, tokens, seconds, loading, PeakMemory.until_now())


def sample(job: Job, shards: Sequence[Shard]) -> Sample:
    """Examples from the beginnings of shards that lie evenly, in an order of chance."""
    chosen = [shards[index * len(shards) // _SHARDS] for index in range(_SHARDS)] if len(shards) > _SHARDS else shards
    _first(job, chosen[0], 1)  # what is imported and opened once is no part of what a row takes
    began = time.monotonic()
    each = max(_ROWS, _SHARDS * _ROWS // max(1, len(chosen)))
    parts = [_first(job, shard, each) for shard in chosen]
    examples = pa.concat_tables([EXAMPLES.empty_table(), *(part for part, _ in parts)])
    rows, rejected = sum(shard.slice.records for shard in shards), sum(rejected for _, rejected in parts)
    return Sample(rows, _shuffled(examples), rejected, time.monotonic() - began)


def sample_of_table(table: TableReader, rows: int) -> Sample:
    """The first examples of a table, for so many of its rows. A row group is read as a whole, by all of its rows."""
    began = time.monotonic()
    group = next(table.groups(EXAMPLES.names))
    first = group.slice(0, _SHARDS * _ROWS).cast(EXAMPLES)
    seconds = time.monotonic() - began
    return Sample(rows, _shuffled(first), 0, seconds * len(first) / len(group))


def _shuffled(examples: pa.Table) -> pa.Table:
    order = random.Random(0).sample(range(len(examples)), len(examples))
    return examples.take(pa.array(order, pa.int64()))


def _first(job: Job, shard: Shard, rows: int) -> tuple[pa.Table, int]:
    opener = partial(open_input, shard.opened, job.cwd)
    for _, records in read(opener, shard.opened, [shard.slice], job.settings.max_record_bytes, job.readers):
        examples, rejects, _ = normalise_records(islice(records, rows), shard.source, job.format, job.rules)
        return examples, len(rejects)
    raise AssertionError("a shard is one slice")


def _tokens(renderer: Renderer, examples: pa.Table, rows: int) -> Interval:
    """Of all rows."""
    return Interval.of_mean([len(row.ids) for row in renderer.render(examples)]) * rows


def _measured(job: Job, examples: pa.Table) -> list[float]:
    """Seconds a row in some parts of the sample, after a first one that is not counted, as long as there is time."""
    began = time.monotonic()
    job.compute(examples.slice(0, 2), NoProgress())
    first = max(time.monotonic() - began, 1e-4) / min(2, len(examples))
    rest = examples.slice(2) if len(examples) > 4 else examples
    affordable = max(2, min(len(rest), int(SECONDS / first)))
    size = max(1, affordable // 2)
    return [*islice(_timed(job, rest, size), max(1, affordable // size))]


def _timed(job: Job, examples: pa.Table, size: int) -> Iterator[float]:
    for start in range(0, len(examples), size):
        part = examples.slice(start, size)
        began = time.monotonic()
        job.compute(part, NoProgress())
        yield (time.monotonic() - began) / len(part)
