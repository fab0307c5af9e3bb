"""The metrics by name. A new one of ours is a module here and a line in ``REGISTRY``."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curricle.curate.metric import Metric, MetricFactory
from curricle.curate.metrics import embedding, generated, ifd, length, loss, lp, mtld, preference, richness
from curricle.curate.passes import LOSS
from curricle.curate.passes.models import Models
from curricle.schemas.common.errors import UsageError, UserError
from curricle.schemas.common.plugins import Group, Origin, stamped
from curricle.schemas.fingerprint import canonical_json
from curricle.schemas.table import EXAMPLES, NOTES_FIELD

REGISTRY: dict[str, Metric | MetricFactory] = {
    metric.name: metric
    for metric in (
        length.METRIC,
        mtld.METRIC,
        loss.METRIC,
        ifd.METRIC,
        generated.METRIC,
        *richness.METRICS,
        *preference.METRICS,
        lp.METRIC,
        embedding.METRIC,
    )
}

PLUGINS: Group[Metric | MetricFactory] = Group(
    "curricle.metrics",
    "metric",
    "a curricle.curate.metric.Metric",
    lambda value: isinstance(value, (Metric, MetricFactory)),
    REGISTRY.keys(),
)


def select(
    names: Sequence[str | Metric], models: Models, options: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Metric]:
    """The metrics with these names, ours first, in the order of the registry, then others as they are named.

    ``options``: what the user chose for a metric that is made for the job, by its name. A metric itself stands for
    itself. UsageError for an unknown name, and as a plug-in does.

    Where one of them reads the proxy's losses, ``loss`` comes along: it costs nothing more, and what is derived from
    it cannot be judged without it.
    """
    chosen: dict[str, Metric] = {}
    for name in (name for index, name in enumerate(names) if name not in names[:index]):
        entry = _lookup(name) if isinstance(name, str) else name
        if entry.name in REGISTRY and entry is not REGISTRY[entry.name]:
            raise UsageError(f"{entry.name} is a metric of ours", where=str(name), remedy="give yours another name")
        if isinstance(entry, MetricFactory):
            entry = entry.for_models(models, (options or {}).get(entry.name, {}))
        if chosen.setdefault(entry.name, entry) != entry:
            raise UsageError(f"two metrics are named {entry.name!r}", remedy="leave one of them out, or rename it")
    if any(LOSS in metric.passes for metric in chosen.values()):
        chosen.setdefault(loss.METRIC.name, loss.METRIC)
    others = [name for name in chosen if name not in REGISTRY]
    metrics = [chosen[name] for name in (*REGISTRY, *others) if name in chosen]
    columns = [column.name for metric in metrics for column in metric.columns]
    if ours := next((name for name in columns if name in (*EXAMPLES.names, NOTES_FIELD.name)), None):
        raise UsageError(f"a metric writes the column {ours!r}, which every table has", remedy="rename its column")
    if twice := next((name for name in columns if columns.count(name) > 1), None):
        raise UsageError(
            f"two metrics write the column {twice!r}", remedy="leave one of them out, or rename its column"
        )
    return metrics


@dataclass(frozen=True)
class MetricReference:
    """A metric as workers are told of it: they load it with their own code, and it has to be the same.

    ``name`` is one of the registry, unless ``origin`` says where it is from. ``params`` are canonical JSON.
    """

    name: str
    version: int
    params: str
    origin: Origin | None


def references(metrics: Iterable[Metric]) -> tuple[MetricReference | Metric, ...]:
    """How to find these metrics again in another process. One that has no name there travels itself."""
    return tuple(metric if _nameless(metric) else _reference(metric) for metric in metrics)


def load(references: Iterable[MetricReference | Metric]) -> tuple[Metric, ...]:
    """The metrics in this process; UserError if they are not those that were referred to."""
    return tuple(each if isinstance(each, Metric) else _again(each) for each in references)


def _nameless(metric: Metric) -> bool:
    return metric.origin is None and metric.name not in REGISTRY


def _reference(metric: Metric) -> MetricReference:
    return MetricReference(metric.name, metric.version, canonical_json(dict(metric.params)), metric.origin)


def _again(reference: MetricReference) -> Metric:
    source = stamped(reference.origin.load(), reference.origin) if reference.origin else REGISTRY[reference.name]
    metric = source.with_parameters(json.loads(reference.params)) if isinstance(source, MetricFactory) else source
    if _reference(metric) != reference:
        raise UserError(
            "a worker would compute another metric than the driver signs",
            where=reference.name,
            remedy="install the same version of curricle on every machine",
        )
    return metric


def _lookup(name: str) -> Metric | MetricFactory:
    if name in REGISTRY:
        return REGISTRY[name]
    plugin = PLUGINS.load(name)
    return stamped(plugin.object, PLUGINS.origin(plugin))
