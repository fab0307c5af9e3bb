"""``curate.score``: metrics on Arrow tables, in this process; and what a job of scores is, wherever it runs."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar

import pyarrow as pa
from curricle.curate.batch import Batch, Scores
from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.metric import Metric, measure, passes_of
from curricle.curate.metrics import MetricReference, load, references, select
from curricle.curate.metrics.lp import METRIC as LP
from curricle.curate.passes import ask
from curricle.curate.passes.models import ROLES, Models, Role
from curricle.curate.progress import NoProgress, Progress
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.readers.examples import Note, notes_column
from curricle.curate.reading import ArrowStream, arrow_table, reading_identity
from curricle.schemas.columns import ScoreColumn, read_metadata
from curricle.schemas.common.config import build
from curricle.schemas.common.errors import UsageError
from curricle.schemas.fingerprint import canonical_json
from curricle.schemas.identity import table_fingerprint, table_identity
from curricle.schemas.table import EXAMPLES, NOTES_FIELD, table_schema

ROWS = 4096
"""Rows whose answers are held at once; no number depends on it."""

Proxy: TypeAlias = str | os.PathLike[str] | ProxySettings | Mapping[str, Any]
Embedding: TypeAlias = str | os.PathLike[str] | EmbeddingSettings | Mapping[str, Any]
S = TypeVar("S")


@dataclass(frozen=True)
class Scoring:
    """Metrics, and the models that they ask: all that decides a number. ``read_by``: what made examples of records.

    Other processes load ``metrics``, and passes with them, by reference, from their own code.
    """

    references: tuple[MetricReference | Metric, ...]
    models: Models
    columns: tuple[ScoreColumn, ...]
    read_by: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        metrics: str | Sequence[str | Metric],
        proxy: Proxy = ProxySettings.model,
        embedding: Embedding = EmbeddingSettings.model,
        compat: Literal["small2large"] | None = None,
        read_by: Mapping[str, Any] | None = None,
    ) -> "Scoring":
        """Names resolved to things. Errors here cost nothing yet: no model is loaded."""
        metrics = metrics.split(",") if isinstance(metrics, str) else metrics
        models = Models(_settings(ProxySettings, "proxy", proxy), _settings(EmbeddingSettings, "embedding", embedding))
        names = [*metrics, *([LP.name] if models.proxy.checkpoints else [])]
        chosen = select(names, models, {LP.name: {"compat": compat}})
        for each in passes_of(chosen):
            each.check(models)
        columns = tuple(column for metric in chosen for column in metric.signed_columns(models))
        return cls(references(chosen), models, columns, read_by or reading_identity())

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def identity(self) -> dict[str, Any]:
        identity: dict[str, Any] = json.loads(canonical_json(table_identity(self.columns, self.read_by)))
        return identity

    @property
    def fingerprint(self) -> str:
        return table_fingerprint(self.identity)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        return load(self.references)

    @property
    def roles(self) -> list[Role]:
        """The models that are asked anything, in the order in which they are."""
        roles = {each.model for each in passes_of(self.metrics)}
        return [role for role in ROLES if role in roles]

    @property
    def asks_model(self) -> bool:
        """Whether anything is computed by a model, and not by its tokenizer alone."""
        return bool({*self.roles} - {"renderer"})

    @cached_property
    def schema(self) -> pa.Schema:
        return table_schema(self.columns, self.fingerprint)

    def load(self) -> dict[Role, Any]:
        """Every model that is asked, loaded in this process."""
        return {role: self._renderer if role == "renderer" else self.models.load(role) for role in self.roles}

    @cached_property
    def _renderer(self) -> Any:
        """Kept here: of the models that a process keeps it is none, and each part would load the tokenizer again."""
        return self.models.load("renderer")

    def compute(self, examples: pa.Table, progress: Progress) -> Scores:
        """The scores of these examples, which have the columns of ``schemas.table.EXAMPLES``."""
        batch = Batch(examples)
        for role, model in self.load().items():  # of each, this process keeps the last one
            batch, _ = ask(passes_of(self.metrics, role), batch, model, progress)
        return measure(batch, self.metrics)

    def score(self, table: pa.Table, progress: Progress) -> pa.Table:
        """The table with scores, see ``curate.score``."""
        read_by = read_metadata(table.schema.metadata).get("reading")  # anybody may have written it
        schema = replace(self, read_by=read_by if isinstance(read_by, Mapping) else self.read_by).schema
        others = _checked(table, schema)
        parts = []
        for start in range(0, max(1, len(table)), ROWS):
            part = table.slice(start, ROWS)
            read = part.select(EXAMPLES.names).cast(EXAMPLES)
            scores = self.compute(read, progress)
            before = part[NOTES_FIELD.name].to_pylist() if NOTES_FIELD.name in part.schema.names else []
            notes = [(row, text) for row, texts in enumerate(before) for text in texts or ()]
            scored = with_scores(read, scores.columns, [*notes, *notes_of(scores)], schema)
            parts.append(_beside(scored, part.select(others)))
            progress.add(rows=len(part))
        return pa.concat_tables(parts)


def score(
    examples: pa.Table | pa.RecordBatch | ArrowStream,
    metrics: str | Sequence[str | Metric],
    *,
    proxy: Proxy = ProxySettings.model,
    embedding: Embedding = EmbeddingSettings.model,
    compat: Literal["small2large"] | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """Compute metrics on examples: the same table with signed columns, and ``notes`` last.

    ``examples``: the ``examples`` that ``curate.read`` gives, or another table with those columns (Arrow, polars,
    pandas). What else it has stays.
    ``metrics``: names as for ``--metrics``, ``./my.py:METRIC``, or ``Metric`` objects. A metric that reads the proxy's
    losses brings the column ``loss`` along.
    ``proxy``, ``embedding``: the name of a model, or all settings of it: ``{"model": "org/name", "max_length": 1024}``
    (``curate.proxy.settings.ProxySettings``, ``curate.embedding.settings.EmbeddingSettings``).
    ``compat``: see ``curricle score --help``. ``progress``: an object with a method ``add``, see ``curate.Progress``.

    A number depends on its row and the settings alone. Counts and lexical measures are those of ``curricle score`` to
    the last bit, and so are losses where the same rows lie together as in a shard of it; else the rounding of the
    model's arithmetic differs, by about 1e-7 of a loss.
    What cannot be computed is null, with the reason in ``notes``. The metadata of each column say which metric made it,
    and those of the table the fingerprint of its scores.

    Raises UsageError for an unknown metric or model, before anything is loaded, and for a table without the columns;
    TypeError for what is no table.
    """
    table = arrow_table(examples)
    if table is None:
        raise TypeError(f"examples are a {type(examples).__name__}, not a table: curate.read(…).examples are one")
    return Scoring.of(metrics, proxy, embedding, compat).score(table, progress or NoProgress())


def notes_of(scores: Scores) -> list[Note]:
    """The notes of metrics in the order in which they made them."""
    return [(row, text) for row, texts in scores.notes.items() for text in texts]


def with_scores(
    examples: pa.Table, columns: Mapping[str, pa.Array], notes: Iterable[Note], schema: pa.Schema
) -> pa.Table:
    """Examples with columns and notes, as this schema of a table has them."""
    arrays: dict[str, Any] = {name: examples[name] for name in examples.column_names}
    arrays |= {**columns, NOTES_FIELD.name: notes_column(notes, len(examples))}
    return pa.Table.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _checked(table: pa.Table, schema: pa.Schema) -> list[str]:
    """The columns that stay beside the examples. UsageError for a table that has not those, or has these scores."""
    names = table.schema.names
    if missing := [name for name in EXAMPLES.names if name not in names]:
        raise UsageError(f"the table has no column {missing[0]!r}", remedy="make examples of it with curate.read")
    others = [name for name in names if name not in (*EXAMPLES.names, NOTES_FIELD.name)]
    if twice := [name for name in others if name in schema.names]:
        raise UsageError(f"the table has a column {twice[0]!r} already", remedy="drop it, or leave its metric out")
    return others


def _beside(scored: pa.Table, others: pa.Table) -> pa.Table:
    """The columns that were there, after the examples' own and before the scores."""
    for index, name in enumerate(others.schema.names, len(EXAMPLES)):
        scored = scored.add_column(index, others.schema.field(name), others[name])
    return scored


def _settings(cls: type[S], name: str, given: Any) -> S:
    if isinstance(given, cls):
        return given
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    return build(cls, {"model": given} if isinstance(given, str) else given, name, f"{name}.")
