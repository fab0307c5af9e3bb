"""The encoder inside Beam."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

import apache_beam as beam
from curricle.curate.embedding.settings import EmbeddingSettings
from curricle.curate.embedding.text import text_of
from curricle.curate.embedding.weights import OPTION, find
from curricle.curate.proxy.weights import Weights
from curricle.pipelines.scoring.meter import Meter
from curricle.pipelines.transforms.models import Kept, weights_here
from curricle.pipelines.transforms.shards import ShardBatch
from curricle.schemas.fingerprint import canonical_json

if TYPE_CHECKING:
    from curricle.curate.embedding.encoder import Encoder

_kept: Kept["Encoder"] = Kept()

_find = cache(find)


@dataclass(frozen=True)
class Encoding:
    """The encoder as every worker is told of it; ``driver`` is the host where ``weights`` were found as ``model``."""

    weights: Weights
    model: str
    settings: EmbeddingSettings
    driver: str

    def loaded(self) -> "Encoder":
        """The encoder, loaded once in a process as long as the same one is asked for."""
        from curricle.curate.embedding.encoder import Encoder  # torch

        key = canonical_json([asdict(self.settings), self.weights.identity])
        here = partial(weights_here, self.weights, self.model, self.driver, _find, OPTION)
        return _kept.get(key, lambda: Encoder(self.settings, here()))


class Embed(beam.PTransform):
    """``ShardBatch`` → ``ShardBatch`` with ``Batch.embedded``."""

    def __init__(self, encoding: Encoding, meter: Meter) -> None:
        super().__init__()
        self.encoding, self.meter = encoding, meter

    def expand(self, batches: beam.PCollection[ShardBatch]) -> beam.PCollection[ShardBatch]:
        return batches | beam.ParDo(_Embed(self.encoding, self.meter))


class _Embed(beam.DoFn):
    def __init__(self, encoding: Encoding, meter: Meter) -> None:
        self.encoding, self.meter = encoding, meter

    def setup(self) -> None:
        self.encoder = self.encoding.loaded()

    def process(self, element: ShardBatch) -> Iterator[ShardBatch]:
        done = 0

        def on_progress(rows: int) -> None:
            nonlocal done
            done += rows
            self.meter.add(in_hand=done)

        texts = [text_of(turns) for turns in element.batch.messages]
        embedded = self.encoder.embed(texts, on_progress)
        yield element.with_batch(replace(element.batch, embedded=embedded))
