"""What a metric is: a named, versioned function from a batch to columns."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.passes import Pass, identity_of, in_order
from curricle.curate.passes.models import Models, Role
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.plugins import Origin, Pluggable
from curricle.schemas.fingerprint import canonical_json


@dataclass(frozen=True)
class Metric(Pluggable):
    """A named, versioned function from a batch of examples to score columns.

    ``compute`` must give a row the same numbers whatever else is in the batch (docs/design.md, law 4), null and a
    note where there is no number (law 2), and change only together with ``version`` or ``params`` (law 3).
    """

    name: str
    """As in ``--metrics``; none of the names of the metrics here."""
    version: int
    """To be raised when the numbers change: it stands in the fingerprint of every column."""
    columns: Sequence[ScoreColumn]
    """The columns that it writes: name, Arrow type, unit, description and hard end of each."""
    compute: Callable[[Batch], Scores]
    """Gives each of ``columns``, as an array of its type with one value a row."""
    requires: frozenset[Pass[Any]] = frozenset()
    """The passes whose answers ``compute`` reads, such as ``curate.passes.LOSS``; what those require comes along."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """What else decides the numbers, as JSON: it stands in the columns' metadata and in their fingerprints."""
    origin: Origin | None = None
    """Which file or distribution a plug-in is from; set where it is loaded."""

    @property
    def passes(self) -> list[Pass[Any]]:
        """Every pass that has to be made for this metric, in order."""
        return in_order(self.requires)

    def signed_columns(self, models: Models) -> list[ScoreColumn]:
        """The columns with this metric's name, version and parameters, and what its passes rest on."""
        params, rests_on = self._all_params(models), self.rests_on(models)
        return [column.of_metric(self.name, self.version, params, rests_on) for column in self.columns]

    def identity(self, models: Models) -> dict[str, Any]:
        """Version and parameters, as they come back from JSON: what is the metric's own in a table's identity."""
        return json.loads(canonical_json({"version": self.version, "params": self._all_params(models)}))

    def rests_on(self, models: Models) -> dict[str, Any]:
        """What decides the numbers of this metric's columns beside version and parameters, in canonical form.

        ``{"rendering": …, "proxy": …, …}``: the identity of each of its passes. See ``ScoreColumn.identity``.
        """
        return json.loads(canonical_json(identity_of(self.requires, models)))

    def _all_params(self, models: Models) -> dict[str, Any]:
        """The metric's parameters, what its passes add to them, and where it is from."""
        params = dict(self.params)
        for each in self.passes:
            params |= each.params(models)
        return params | ({"plugin": dict(self.origin.identity)} if self.origin else {})


@dataclass(frozen=True)
class MetricFactory(Pluggable):
    """A metric whose columns depend on the models or options of a job, as those of ``lp`` on the number of checkpoints.

    The metric of a job is ``make(**parameters(models, options))``. Its ``params`` have to be these parameters: they are
    all that workers are given, and they make the same metric of them.
    """

    name: str
    """As in ``--metrics``."""
    parameters: Callable[[Models, Mapping[str, Any]], dict[str, Any]]
    """From the models and the metric's options to what JSON can hold."""
    make: Callable[..., Metric]
    """From these parameters, as keywords, to the metric."""
    origin: Origin | None = None
    """Which file or distribution a plug-in is from; set where it is loaded."""

    def for_models(self, models: Models, options: Mapping[str, Any]) -> Metric:
        """The metric for one job. UsageError where there is no such metric for these models."""
        return self.with_parameters(self.parameters(models, options))

    def with_parameters(self, parameters: Mapping[str, Any]) -> Metric:
        """The metric that ``parameters`` of another process describe."""
        return replace(self.make(**parameters), origin=self.origin)


def passes_of(metrics: Iterable[Metric], role: Role | None = None) -> list[Pass[Any]]:
    """Every pass that has to be made for these metrics, in order; of one role, if it is named."""
    passes = in_order(each for metric in metrics for each in metric.requires)
    return [each for each in passes if role in (None, each.model)]


def measure(batch: Batch, metrics: Iterable[Metric]) -> Scores:
    """Every metric's columns and notes, in the metrics' order. The batch has the answers of the passes they require.

    TypeError or ValueError if a metric returns other columns than it declares.
    """
    columns: dict[str, pa.Array] = {}
    notes: dict[int, list[str]] = {}
    for metric in metrics:
        with metric.origin.blamed(_rows(batch)) if metric.origin else nullcontext():
            scores = metric.compute(batch)
            _check(metric, scores, len(batch))
        columns |= {column.name: scores.columns[column.name] for column in metric.columns}
        for row, texts in scores.notes.items():
            notes.setdefault(row, []).extend(texts)
    return Scores(columns, notes)


def _rows(batch: Batch) -> str:
    """Which rows of which file a batch has."""
    rows = batch.table.select(["source", "source_position"])
    if not rows.num_rows:
        return "no rows"
    first, last = (rows.slice(at, 1).to_pylist()[0] for at in (0, rows.num_rows - 1))
    there = f"{first['source']} position {first['source_position']}"
    if last["source"] == first["source"]:
        return f"{there} to {last['source_position']}"
    return f"{there} to {last['source']} position {last['source_position']}"


def _check(metric: Metric, scores: Scores, rows: int) -> None:
    expected = {column.name: column.type for column in metric.columns}
    if not isinstance(scores, Scores):
        raise TypeError(f"metric {metric.name} returned {type(scores).__name__}, not Scores")
    if scores.columns.keys() != expected.keys():
        raise ValueError(f"metric {metric.name} returned {sorted(scores.columns)}, not {sorted(expected)}")
    for name, array in scores.columns.items():
        if not isinstance(array, (pa.Array, pa.ChunkedArray)):
            raise TypeError(f"metric {metric.name}: {name} is a {type(array).__name__}, not an Arrow array")
        if len(array) != rows:
            raise ValueError(f"metric {metric.name}: {name} has {len(array)} values for {rows} rows")
        if array.type != expected[name]:
            raise TypeError(f"metric {metric.name}: {name} is {array.type}, not {expected[name]}")
    for row, texts in scores.notes.items():
        if row not in range(rows):
            raise ValueError(f"metric {metric.name} has a note for row {row!r} of {rows}")
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"metric {metric.name}: the notes of row {row} are {texts!r:.100}, not a list of texts")
