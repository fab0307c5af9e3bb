"""The proxy's forward passes: a RunInference model handler around a backend."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference
from curricle.curate.metric import Needs
from curricle.curate.proxy.backend import Backend
from curricle.curate.proxy.generation import generate_batch
from curricle.curate.proxy.scoring import score_batch, score_checkpoints
from curricle.pipelines.scoring.meter import Meter
from curricle.pipelines.transforms.proxy import Proxy
from curricle.pipelines.transforms.shards import ShardBatch

_taking = threading.Lock()
"""Held while a model goes from checkpoint to checkpoint: an engine may run two bundles at once in threads."""


class AskProxy(beam.PTransform):
    """``ShardBatch`` that is rendered → ``ShardBatch`` with what the model says: losses, answers.

    ``later``: the checkpoints of the proxy that are asked after it.
    """

    def __init__(self, proxy: Proxy, later: Sequence[Proxy], needs: Needs, generates: bool, meter: Meter) -> None:
        super().__init__()
        self.handler = _Handler(proxy, later, needs, generates, meter)

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        return batches | RunInference(self.handler)


class _Handler(ModelHandler[ShardBatch, ShardBatch, Backend]):
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
