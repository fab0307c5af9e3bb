"""The metrics by name. A new one is a module here and a line in ``REGISTRY``."""

from collections.abc import Sequence

from curate.metric import Metric, Needs
from curate.metrics import ifd, length, loss, mtld, richness
from schemas.config import nearest
from schemas.errors import UsageError

REGISTRY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        length.METRIC,
        mtld.METRIC,
        loss.METRIC,
        ifd.METRIC,
        *richness.METRICS,
    )
}


def select(names: Sequence[str]) -> list[Metric]:
    """The metrics with these names, in the order of the registry; UsageError for an unknown name.

    Where one of them runs the proxy, ``loss`` comes along: it costs nothing more, and what is derived from
    it cannot be judged without it.
    """
    for name in names:
        if name not in REGISTRY:
            raise UsageError(
                f"there is no metric {name!r}", remedy=f"{nearest(name, REGISTRY)} (metrics: {', '.join(REGISTRY)})"
            )
    runs_proxy = any(REGISTRY[name].needs >= Needs.LOSS for name in names)
    wanted = {*names, "loss"} if runs_proxy else {*names}
    return [metric for name, metric in REGISTRY.items() if name in wanted]
