"""What models are asked about rows: each pass is one object, named by the metrics that read its answers."""

from curricle.curate.passes.base import OnProgress, Pass, identity_of, in_order, merged
from curricle.curate.passes.embedding import EMBEDDING, EmbeddingPass
from curricle.curate.passes.generation import GENERATION, GenerationPass
from curricle.curate.passes.hidden import HiddenStatePass
from curricle.curate.passes.loss import (
    CHECKPOINT_LOSSES,
    LOSS,
    UNCONDITIONAL_LOSS,
    CheckpointPass,
    LikelihoodPass,
)
from curricle.curate.passes.models import Models, Role
from curricle.curate.passes.rendering import RENDERING, ProxyPass, RenderPass
from curricle.curate.passes.running import ask, fill

__all__ = [
    "CHECKPOINT_LOSSES",
    "EMBEDDING",
    "GENERATION",
    "LOSS",
    "RENDERING",
    "UNCONDITIONAL_LOSS",
    "CheckpointPass",
    "EmbeddingPass",
    "GenerationPass",
    "HiddenStatePass",
    "LikelihoodPass",
    "Models",
    "OnProgress",
    "Pass",
    "ProxyPass",
    "RenderPass",
    "Role",
    "ask",
    "fill",
    "identity_of",
    "in_order",
    "merged",
]
