"""Run the metrics over a batch."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import apache_beam as beam
from curricle.curate.metric import Metric
from curricle.curate.metrics import MADE, identities, select
from curricle.pipelines.transforms.shards import ShardBatch
from curricle.schemas.common.errors import UserError


class Measure(beam.PTransform):
    """``ShardBatch`` → ``ShardBatch`` with the columns of the metrics, which must be the same here as in the driver."""

    def __init__(self, identities: Mapping[str, Any]) -> None:
        super().__init__()
        self.identities = identities

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        return batches | beam.ParDo(_Measure(self.identities))


class _Measure(beam.DoFn):
    def __init__(self, identities: Mapping[str, Any]) -> None:
        self.identities = identities

    def setup(self) -> None:
        _leave_libraries_alone()
        params = {name: dict(identity["params"]) for name, identity in self.identities.items()}
        rendering = [each.pop("rendering") for each in params.values() if "rendering" in each]
        made = {name: each for name, each in params.items() if name in MADE}
        self.metrics = select(tuple(self.identities), made, rendering[0] if rendering else None)
        here = identities(self.metrics)
        if here != self.identities:
            raise UserError(
                "a worker would compute other metrics than the driver signs",
                where=", ".join(name for name in here if here[name] != self.identities[name]),
                remedy="install the same version of curricle on every machine",
            )

    def process(self, element: ShardBatch) -> Iterator[ShardBatch]:
        yield measure(element, self.metrics)


@cache
def _leave_libraries_alone() -> None:
    """Take what is loaded by now out of the garbage collector's rounds, once in a process.

    They are a tenth of the time of cheap metrics, and most of a second when a worker ends: Beam loads 300,000 objects.
    """
    gc.freeze()


def measure(element: ShardBatch, metrics: Sequence[Metric]) -> ShardBatch:
    """Every metric's columns and notes, in the metrics' order."""
    scores, notes = list(element.scores), list(element.notes)
    for metric in metrics:
        result = metric.compute(element.batch)
        _check(metric, result.columns, len(element.batch))
        scores += [(column.name, result.columns[column.name]) for column in metric.columns]
        notes += [(row, text) for row, texts in result.notes.items() for text in texts]
    return replace(element, scores=tuple(scores), notes=tuple(notes))


def _check(metric: Metric, columns, rows: int) -> None:
    expected = {column.name: column.type for column in metric.columns}
    assert columns.keys() == expected.keys(), f"metric {metric.name} returned {sorted(columns)}, not {sorted(expected)}"
    for name, array in columns.items():
        assert len(array) == rows, f"metric {metric.name}: {name} has {len(array)} values for {rows} rows"
        assert array.type == expected[name], f"metric {metric.name}: {name} is {array.type}, not {expected[name]}"
