"""``pipelines.Score``: metrics inside a Beam pipeline of one's own."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.formats import Format, named
from curricle.curate.metric import Metric
from curricle.curate.proxy import devices
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.readers.examples import normalise_records
from curricle.curate.readers.records import of_program
from curricle.curate.reading import reading_identity, records_of
from curricle.curate.scoring import Embedding, Proxy, Scoring, notes_of
from curricle.schemas.common.errors import UserError
from curricle.schemas.table import EXAMPLES, NOTES_FIELD

LEAST, MOST = 64, 1024
"""Records in a batch: fewer fill no forward pass, and more are much to hold."""

_scoring = threading.Lock()
"""A runner may have several threads in a process, and they share the models."""


class Score(beam.PTransform[PCollection[Any], PCollection[Any]]):
    """Score conversations in a pipeline of your own: ``conversations | pipelines.Score(["loss"], proxy="org/name")``.

    Elements are records, as dicts of any format that ``curricle score`` reads, or Arrow tables and record batches, of
    such records or of what ``curate.read`` gives. Each comes out as it is with the score columns and ``notes`` beside
    its own fields; columns of Arrow are signed. What cannot be computed is null, with the reason among the notes: so is
    everything of a record that is no conversation. Nothing is lost, and no element stands for another.

    The options are those of ``curate.score`` and ``curate.read``. ``into`` names one field for all scores of a dict,
    for records that have a field of the name of a score, or ``notes``; without it, such a record is an error.

    Dicts are scored in batches of up to 1,024, of one window, whose end is their timestamp from then on. Models are
    loaded once in a process; workers need curricle, and the model of the driver, or they refuse. Numbers are those of
    ``curricle score``, see ``curate.score``. Beam's counters ``rows``, ``unread`` and ``tokens`` are in the namespace
    ``curricle``.

    Raises UsageError for an unknown metric, format or model, where the pipeline is built.
    """

    def __init__(
        self,
        metrics: str | Sequence[str | Metric],
        *,
        proxy: Proxy = ProxySettings.model,
        embedding: Embedding = EmbeddingSettings.model,
        compat: Literal["small2large"] | None = None,
        format: str | Format | None = None,
        prompt_field: str | None = None,
        response_field: str | None = None,
        into: str | None = None,
    ) -> None:
        super().__init__()
        chosen = format if isinstance(format, Format) else named(format, prompt_field, response_field)
        scoring = Scoring.of(metrics, proxy, embedding, compat, reading_identity(chosen))
        self.worker = _Score(scoring, chosen, into)

    def expand(self, elements: PCollection[Any]) -> PCollection[Any]:
        return elements | beam.BatchElements(min_batch_size=LEAST, max_batch_size=MOST) | beam.ParDo(self.worker)


class _Counters:
    """Progress, as metrics of Beam."""

    def __init__(self) -> None:
        self.counters = {name: Metrics.counter("curricle", name) for name in ("rows", "unread", "tokens")}

    def add(self, *, rows: int = 0, rejects: int = 0, tokens: int = 0, in_hand: float = 0.0) -> None:
        for name, count in (("rows", rows), ("unread", rejects), ("tokens", tokens)):
            if count:
                self.counters[name].inc(count)


class _Score(beam.DoFn):
    def __init__(self, scoring: Scoring, format: Format | None, into: str | None) -> None:
        self.scoring, self.format, self.into = scoring, format, into

    def setup(self) -> None:
        self.progress = _Counters()
        with _scoring:
            if self.scoring.asks_model:
                devices.stay_untouched()
                self.scoring.models.claim()
            self.scoring.load()

    def process(self, elements: Sequence[Any]) -> Iterator[Any]:
        records = [each for each in elements if isinstance(each, Mapping)]
        with _scoring:
            scored = iter(self._dicts(records) if records else ())
            for each in elements:
                yield next(scored) if isinstance(each, Mapping) else self._arrow(each)

    def _dicts(self, records: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        columns = self._scores(records)
        for record, values in zip(records, columns.to_pylist(), strict=True):
            if self.into is not None:
                values = {self.into: values}
            if twice := values.keys() & record.keys():
                raise UserError(
                    f"a record has a field {min(twice)!r} of its own",
                    where="pipelines.Score",
                    remedy='name a field for all scores: Score(…, into="scores")',
                )
            yield {**record, **values}

    def _arrow(self, element: Any) -> pa.Table | pa.RecordBatch:
        if not isinstance(element, (pa.Table, pa.RecordBatch)):
            raise UserError(
                f"an element is {type(element).__name__}", where="pipelines.Score", remedy="give dicts or Arrow tables"
            )
        table = pa.Table.from_batches([element]) if isinstance(element, pa.RecordBatch) else element
        if {*EXAMPLES.names} <= {*table.schema.names}:
            scored = self.scoring.score(table, self.progress)
        else:
            columns = self._scores([*records_of(table)])
            if twice := {*columns.schema.names} & {*table.schema.names}:
                found = f"the table has a column {min(twice)!r} already"
                raise UserError(found, where="pipelines.Score", remedy="drop or rename it before")
            fields, arrays = [*table.schema, *columns.schema], [*table.columns, *columns.columns]
            metadata = {**columns.schema.metadata, **(table.schema.metadata or {})}
            scored = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata))
        return scored if isinstance(element, pa.Table) else _one_batch(scored)

    def _scores(self, records: Sequence[Any]) -> pa.Table:
        """Score columns and notes, a row for each record."""
        read = normalise_records((of_program(at, value) for at, value in enumerate(records)), "records", self.format)
        scores = self.scoring.compute(read.examples, self.progress)
        self.progress.add(rows=len(records), rejects=len(read.rejects))
        rows = {record: row for row, record in enumerate(read.examples["source_position"].to_pylist())}
        texts: list[list[str]] = [[] for _ in records]
        for reject in read.rejects.select(["source_position", "reason"]).to_pylist():
            texts[reject["source_position"]].append(reject["reason"])
        where = [*rows]
        for row, text in [*read.notes, *notes_of(scores)]:
            texts[where[row]].append(text)
        indices = pa.array([rows.get(record) for record in range(len(records))], pa.int64())
        schema = pa.schema([each for each in self.scoring.schema if each.name not in EXAMPLES.names])
        columns = {name: array.take(indices) for name, array in scores.columns.items()}
        columns[NOTES_FIELD.name] = pa.array([text or None for text in texts], NOTES_FIELD.type)
        return pa.Table.from_arrays(
            [columns[name] for name in schema.names], schema=schema.with_metadata(self.scoring.schema.metadata)
        )


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
    return batch
