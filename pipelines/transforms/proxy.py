"""The proxy model inside Beam: rendering, and a RunInference model handler around a backend."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference

from curate.proxy.backend import Backend, load
from curate.proxy.rendering import Renderer
from curate.proxy.scoring import score_batch
from curate.proxy.settings import ProxySettings
from curate.proxy.weights import Weights, resolve
from pipelines.progress import Meter
from pipelines.transforms.shards import ShardBatch
from schemas.errors import UserError
from schemas.fingerprint import canonical_json

_models: dict[str, Backend] = {}
"""The model that this process has loaded. On a dask cluster a process runs one pipeline after the other with it."""


def loaded(weights: Weights, settings: ProxySettings) -> Backend:
    """The model, loaded once in a process as long as the same one is asked for."""
    key = canonical_json([asdict(settings), weights.identity])
    if key not in _models:
        _models.clear()
        _models[key] = load(settings, weights_here(weights, settings))
    return _models[key]


def weights_here(weights: Weights, settings: ProxySettings) -> Weights:
    """The same weights on this machine, which may not be the driver's; UserError if they are others."""
    if weights.directory.is_dir():
        return weights
    found = resolve(settings.model)
    if found.identity != weights.identity:
        raise UserError(
            "a worker finds other weights under this name than the driver",
            where=f"--proxy.model {settings.model}",
            remedy="put the same model on every machine, or name a revision",
        )
    return found


class Render(beam.DoFn):
    """Fill ``Batch.rendered``: token ids and response spans."""

    def __init__(self, weights: Weights, settings: ProxySettings) -> None:
        self.weights, self.settings = weights, settings

    def setup(self) -> None:
        self.renderer = Renderer(weights_here(self.weights, self.settings), self.settings)

    def process(self, element: ShardBatch):
        yield element.with_batch(replace(element.batch, rendered=self.renderer.render(element.batch.table)))


class ProxyHandler(ModelHandler[ShardBatch, ShardBatch, Backend]):
    """Loss of a shard's responses. The element is a shard, and the backend orders and batches its rows by
    length itself: Beam's batching would mix short rows with long ones and pad three tokens for each real one.
    """

    def __init__(self, weights: Weights, settings: ProxySettings, unconditional: bool, meter: Meter) -> None:
        super().__init__()
        self.weights, self.settings, self.unconditional, self.meter = weights, settings, unconditional, meter

    def load_model(self) -> Backend:
        return loaded(self.weights, self.settings)

    def run_inference(
        self, batch: Sequence[ShardBatch], model: Backend, inference_args: Mapping[str, Any] | None = None
    ) -> list[ShardBatch]:
        # A list, not a generator: errors raised while a generator is consumed pass Beam's accounting by.
        return [self._score(element, model) for element in batch]

    def _score(self, element: ShardBatch, model: Backend) -> ShardBatch:
        rendered = element.batch.rendered or ()
        expected = sum(len(row.ids) for row in rendered)
        if self.unconditional:
            expected += sum(end - start for row in rendered for start, end in (*row.headers, *row.spans))
        passed = 0

        def on_progress(tokens: int) -> None:
            nonlocal passed
            passed += tokens
            self.meter.add(tokens=tokens, in_hand=len(rendered) * min(1.0, passed / max(1, expected)))

        scored = score_batch(element.batch, model, self.unconditional, on_progress)
        return replace(element, batch=scored, tokens=passed)

    def get_num_bytes(self, batch: Sequence[ShardBatch]) -> int:
        return sum(element.batch.table.nbytes for element in batch)

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return {"min_batch_size": 1, "max_batch_size": 1}

    def get_metrics_namespace(self) -> str:
        return "proxy"


class AskProxy(beam.PTransform):
    """``ShardBatch`` → ``ShardBatch`` with tokens, and with loss if a handler is given."""

    def __init__(self, weights: Weights, settings: ProxySettings, handler: ProxyHandler | None) -> None:
        super().__init__()
        self.weights, self.settings, self.handler = weights, settings, handler

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        rendered = batches | "Render" >> beam.ParDo(Render(self.weights, self.settings))
        return rendered if self.handler is None else rendered | RunInference(self.handler)
