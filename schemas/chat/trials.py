"""How a model is tried before it is relied on: on which rows, and how near their numbers have to be.

Scoring and training each try the passes that they will make, on rows whose losses the model also gives each alone.
torch is imported when a model is tried.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from curricle.schemas.chat.memory import is_out_of_memory
from curricle.schemas.chat.models import embeddings
from curricle.schemas.common.errors import UsageError

OTHER = "choose another architecture"

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


class HasHead(Protocol):
    """``plain_head``: whether logits are the output embedding of the last hidden state and nothing more, so that the
    head may read scored positions alone. Models that scale, cap or mix their logits are asked for them.
    """

    model: Any
    plain_head: bool


def find_head(subject: HasHead, trial: Callable[[], float], bound: float) -> None:
    """Set ``plain_head`` by a trial of it as it is set: how far its numbers are from those of the model, in nats."""
    import torch

    subject.plain_head = isinstance(subject.model.get_output_embeddings(), torch.nn.Linear)
    subject.plain_head = subject.plain_head and holds(trial, bound)


def holds(trial: Callable[[], float], bound: float) -> bool:
    """Whether the numbers of a trial are within a bound. What fails in it is not for this model."""
    try:
        return trial() <= bound
    except (TypeError, AttributeError, KeyError, IndexError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        return False


def furthest(pairs: Iterable[tuple[Any, Any]]) -> float:
    """How far two tensors of a row's log p, one for each token, are apart, in nats a token, for the worst of the rows.

    Not a number if one of them is not.
    """
    import torch

    return float(torch.stack([(one - other).abs().mean() for one, other in pairs]).max())


def check_causal(model: Any, gives: str, off: float, bound: float) -> None:
    """UsageError where losses are further from those of each row alone than this, and so no row's own.

    ``gives``: what the model then gives, as in "a row another loss".
    """
    if not off <= bound:
        raise UsageError(
            f"{type(model).__name__} gives {gives} beside a longer one than alone, by {off:.2g} nats a token: "
            "what stands after a token changes its loss",
            remedy="choose a causal language model",
        )


@contextmanager
def in_words(found: str, remedy: str) -> Iterator[None]:
    """UsageError for what a model's own code raises, which may be anything."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UsageError(f"{found}: {type(error).__name__}: {error}", remedy=remedy) from error
