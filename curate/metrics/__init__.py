"""The metrics by name. A new one is a module here and a line in ``REGISTRY``."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curricle.curate.metric import Metric, Needs
from curricle.curate.metrics import embedding, generated, ifd, length, loss, lp, mtld, richness
from curricle.schemas.common.config import nearest
from curricle.schemas.common.errors import UsageError
from curricle.schemas.fingerprint import canonical_json

REGISTRY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        length.METRIC,
        mtld.METRIC,
        loss.METRIC,
        ifd.METRIC,
        generated.METRIC,
        *richness.METRICS,
    )
}

MADE: dict[str, Callable[..., Metric]] = {"lp": lp.metric, "embedding": embedding.metric}
"""Metrics that are made for one job, from parameters of their own."""


def identities(metrics: Sequence[Metric]) -> dict[str, Any]:
    """What made each metric's columns, by name, as it comes back from JSON."""
    return json.loads(canonical_json({metric.name: metric.identity() for metric in metrics}))


def select(
    names: Sequence[str],
    made: Mapping[str, Mapping[str, Any]] | None = None,
    rendering: Mapping[str, str] | None = None,
) -> list[Metric]:
    """The metrics with these names, and those that are to be made with these parameters, in the order of the registry.

    ``rendering`` is what those that read tokens say of it. UsageError for an unknown name.

    Where one of them runs the proxy, ``loss`` comes along: it costs nothing more, and what is derived from
    it cannot be judged without it.
    """
    known = {**REGISTRY, **{name: MADE[name](**params) for name, params in (made or {}).items()}}
    for name in names:
        if name in MADE and name not in known:
            raise UsageError(
                f"the metric {name} compares checkpoints, and none is named",
                remedy="add --proxy.checkpoints P0,P1,…, or use `curricle lp`, which trains them",
            )
        if name not in known:
            there = [*REGISTRY, *MADE]
            raise UsageError(
                f"there is no metric {name!r}", remedy=f"{nearest(name, there)} (metrics: {', '.join(there)})"
            )
    wanted = {*names, *(made or {})}
    runs_proxy = any(known[name].needs >= Needs.LOSS for name in wanted)
    chosen = [metric for name, metric in known.items() if name in wanted or (runs_proxy and name == "loss")]
    return [metric.as_rendered(rendering) for metric in chosen]
