"""How a model is tried before it is relied on: on which rows, and how near their numbers have to be.

Scoring and training each try the passes that they will make, on rows whose losses the model also gives each alone.
"""

from typing import Any

from curricle.schemas.chat.models import embeddings

TOLERANCE = 1e-4
"""Nats a token, on average over a row, in float32."""
LENGTHS = (5, 17, 40)
REACH = 32
"""Tokens beyond a length from which on the model does something else."""


def tolerance(eps: float) -> float:
    """Nats a token, on average over a row, for arithmetic with this distance between 1 and the next number.

    Half precisions are coarser by their step: 0.125 in bfloat16, where SmolLM2-135M's losses of a row of random tokens
    move by 0.09 with the shape of its pass.
    """
    return max(TOLERANCE, 16 * eps)


def vocabulary(model: Any) -> int:
    """The first so many tokens are read, predicted and known to the config of a model of transformers."""
    rows = embeddings(model)
    return min(rows, getattr(model.config.get_text_config(), "vocab_size", rows))
