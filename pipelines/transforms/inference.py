"""The models that answer, inside Beam: a RunInference model handler for each role."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference
from curricle.curate.batch import Batch
from curricle.curate.metric import Metric, passes_of
from curricle.curate.metrics import load
from curricle.curate.passes import ask
from curricle.curate.passes.models import Role
from curricle.pipelines.scoring.job import Job
from curricle.pipelines.scoring.meter import Meter
from curricle.pipelines.transforms.shards import Portion, ShardBatch


class Ask(beam.PTransform[beam.PCollection[ShardBatch], beam.PCollection[ShardBatch]]):
    """``ShardBatch`` → ``ShardBatch`` with the answers of the model that has this role."""

    def __init__(self, role: Role, job: Job, meter: Meter) -> None:
        super().__init__(label=f"Ask the {role}")
        self.handler = _Handler(role, job, meter)

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        return batches | beam.Map(_alone) | RunInference(self.handler)


def _alone(element: ShardBatch) -> list[ShardBatch]:
    """A batch of one shard, as RunInference wants it."""
    return [element]


class _Handler(ModelHandler[ShardBatch, ShardBatch, Any]):
    """The passes of one model over a shard. The element is a shard, and a model orders and batches its rows by length
    itself: Beam's batching would mix short rows with long ones and pad three tokens for each real one.
    """

    def __init__(self, role: Role, job: Job, meter: Meter) -> None:
        super().__init__()
        self.role, self.metrics, self.models, self.meter = role, job.references, job.models, meter
        # counted here: a worker would count the GPUs that it sees
        self.workers = job.workers if job.settings.starts_workers else 1

    @cached_property
    def loaded(self) -> tuple[Metric, ...]:
        """In a worker, of its own code: passes do not travel."""
        return load(self.metrics)

    def load_model(self) -> Callable[[], Any]:
        """The model, loaded at the first question: where every score is copied there is none."""

        def load_on_own_gpu() -> Any:
            self.models.claim(self.workers)
            return self.models.load(self.role)

        return cache(load_on_own_gpu)

    def run_inference(
        self,
        batch: Sequence[ShardBatch],
        model: Callable[[], Any],
        inference_args: Mapping[str, Any] | None = None,
    ) -> list[ShardBatch]:
        # A list, not a generator: errors raised while a generator is consumed pass Beam's accounting by.
        return [self._ask(element, model) for element in batch]

    def _ask(self, element: ShardBatch, model: Callable[[], Any]) -> ShardBatch:
        tokens = element.tokens

        def answers(portion: Portion) -> Batch:
            nonlocal tokens
            passes = passes_of((each for each in self.loaded if each.name in portion.metrics), self.role)
            if not passes:
                return portion.batch
            batch, read = ask(passes, portion.batch, model(), self.meter)
            tokens += read
            return batch

        return replace(element.with_batches(answers), tokens=tokens)

    def get_num_bytes(self, batch: Sequence[ShardBatch]) -> int:
        return sum(element.examples.nbytes for element in batch)

    def should_skip_batching(self) -> bool:
        """Beam would hand a batch on when the next element comes, and hold one shard more."""
        return True

    def get_metrics_namespace(self) -> str:
        return self.role
