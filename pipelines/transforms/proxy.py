"""The proxy model inside Beam: who it is, and how it reads conversations."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache

import apache_beam as beam
from curricle.curate.proxy.backend import Backend, load
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights, resolve
from curricle.pipelines.transforms.models import Kept, weights_here
from curricle.pipelines.transforms.shards import ShardBatch
from curricle.schemas.fingerprint import canonical_json

_kept: Kept[Backend] = Kept()

_resolve = cache(resolve)


@dataclass(frozen=True)
class Proxy:
    """The proxy as every worker is told of it; ``driver`` is the host where ``weights`` were found."""

    weights: Weights
    settings: ProxySettings
    driver: str

    def here(self) -> Weights:
        """The same weights on this machine; UserError if they are others."""
        return weights_here(self.weights, self.settings.model, self.driver, _resolve, "--proxy.model")

    def loaded(self) -> Backend:
        """The model, loaded once in a process as long as the same one is asked for."""
        key = canonical_json([asdict(self.settings), self.weights.identity])
        return _kept.get(key, lambda: load(self.settings, self.here()))


class Render(beam.PTransform):
    """``ShardBatch`` → ``ShardBatch`` with ``Batch.rendered``: token ids and response spans."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self.proxy = proxy

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        return batches | beam.ParDo(_Render(self.proxy))


class _Render(beam.DoFn):
    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def setup(self) -> None:
        self.renderer = Renderer(self.proxy.here(), self.proxy.settings)

    def process(self, element: ShardBatch) -> Iterator[ShardBatch]:
        yield element.with_batch(replace(element.batch, rendered=self.renderer.render(element.batch.table)))
