"""A unit vector for each conversation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curricle.curate.batch import Batch, Embedded
from curricle.curate.embedding.text import text_of
from curricle.curate.passes.base import OnProgress, Pass
from curricle.curate.passes.models import Role

if TYPE_CHECKING:
    from curricle.curate.embedding.encoder import Encoder


@dataclass(frozen=True)
class EmbeddingPass(Pass[Embedded]):
    """The encoder's vector of each conversation as one text (``curate.embedding.text``): one ``Embedded`` a batch."""

    model: Role = "encoder"

    def ask(self, batch: Batch, model: "Encoder", on_progress: OnProgress) -> Embedded:
        return model.embed([text_of(turns) for turns in batch.messages], on_progress)


EMBEDDING = EmbeddingPass("embedding")
"""Unit vectors of the conversations: an ``Embedded``, float32 (rows, dimensions)."""
