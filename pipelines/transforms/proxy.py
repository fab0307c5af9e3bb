"""The proxy model inside Beam: rendering, and a RunInference model handler around a backend."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference

from curate.metric import Needs
from curate.proxy.backend import Backend, load
from curate.proxy.generation import generate_batch
from curate.proxy.rendering import Renderer
from curate.proxy.scoring import score_batch, score_checkpoints
from curate.proxy.settings import ProxySettings
from curate.proxy.weights import Weights, resolve
from pipelines.progress import Meter
from pipelines.transforms.models import Kept, weights_here
from pipelines.transforms.shards import ShardBatch
from schemas.fingerprint import canonical_json

_kept: Kept[Backend] = Kept()

_resolve = cache(resolve)

_taking = threading.Lock()
"""Held while a model goes from checkpoint to checkpoint: an engine may run two bundles at once in threads."""


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


class Render(beam.DoFn):
    """Fill ``Batch.rendered``: token ids and response spans."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def setup(self) -> None:
        self.renderer = Renderer(self.proxy.here(), self.proxy.settings)

    def process(self, element: ShardBatch):
        yield element.with_batch(replace(element.batch, rendered=self.renderer.render(element.batch.table)))


class ProxyHandler(ModelHandler[ShardBatch, ShardBatch, Backend]):
    """Loss of a shard's responses, and the proxy's own answers. The element is a shard, and the backend orders and
    batches its rows by length itself: Beam's batching would mix short rows with long ones and pad three tokens for each
    real one.
    """

    def __init__(self, proxy: Proxy, later: Sequence[Proxy], needs: Needs, generates: bool, meter: Meter) -> None:
        super().__init__()
        self.proxy, self.later, self.needs, self.generates, self.meter = proxy, later, needs, generates, meter

    def load_model(self) -> Backend:
        return self.proxy.loaded()

    def run_inference(
        self, batch: Sequence[ShardBatch], model: Backend, inference_args: Mapping[str, Any] | None = None
    ) -> list[ShardBatch]:
        # A list, not a generator: errors raised while a generator is consumed pass Beam's accounting by.
        if not self.later:
            return [self._score(element, model) for element in batch]
        with _taking:
            model.take(self.proxy.here())
            return [self._score(element, model) for element in batch]

    def _score(self, element: ShardBatch, model: Backend) -> ShardBatch:
        rendered = element.batch.rendered or ()
        expected = 0
        if self.needs >= Needs.LOSS:
            expected += sum(len(row.ids) for row in rendered)
        if self.needs >= Needs.UNCONDITIONAL_LOSS:
            expected += sum(end - start for row in rendered for start, end in (*row.headers, *row.spans))
        if self.generates:
            longest = self.proxy.settings.generation.max_new_tokens
            expected += sum(row.spans[-1][0] + longest for row in rendered if row.spans)
        expected += len(self.later) * sum(len(row.ids) for row in rendered)
        passed = 0

        def on_progress(tokens: int) -> None:
            nonlocal passed
            passed += tokens
            self.meter.add(tokens=tokens, in_hand=len(rendered) * min(1.0, passed / max(1, expected)))

        batch = element.batch
        if self.needs >= Needs.LOSS:
            batch = score_batch(batch, model, self.needs >= Needs.UNCONDITIONAL_LOSS, on_progress)
        if self.generates:
            batch = generate_batch(batch, model, on_progress)
        if self.later:
            batch = score_checkpoints(batch, model, [proxy.here() for proxy in self.later], on_progress)
        return replace(element, batch=batch, tokens=passed)

    def get_num_bytes(self, batch: Sequence[ShardBatch]) -> int:
        return sum(element.batch.table.nbytes for element in batch)

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return {"min_batch_size": 1, "max_batch_size": 1}

    def get_metrics_namespace(self) -> str:
        return "proxy"


class AskProxy(beam.PTransform):
    """``ShardBatch`` → ``ShardBatch`` with tokens, and with what the model says if a handler is given."""

    def __init__(self, proxy: Proxy, handler: ProxyHandler | None) -> None:
        super().__init__()
        self.proxy, self.handler = proxy, handler

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        rendered = batches | "Render" >> beam.ParDo(Render(self.proxy))
        return rendered if self.handler is None else rendered | RunInference(self.handler)
