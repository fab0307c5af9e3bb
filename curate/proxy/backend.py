"""What runs the proxy model."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from curricle.curate.batch import LogLikelihood
from curricle.curate.proxy.questions import Decoder, GenerationRequest
from curricle.curate.proxy.sequences import Request, SpecialTokens
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights, loading

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class Backend(Protocol):
    """A loaded model. A row's score does not depend on what else is scored with it (docs/design.md, law 4)."""

    special: SpecialTokens
    vocabulary: int
    """How many tokens the model has embeddings for; a tokenizer may have more."""
    speech: Decoder
    weights: Weights
    """Those that are loaded."""
    checkpoints: Sequence[Weights]
    """Later checkpoints of the same model, which ``take`` can load instead."""

    def take(self, weights: Weights) -> None:
        """Load the weights of another checkpoint of the same model instead of those that are loaded.

        One model is in memory at a time, however many checkpoints are compared.
        """
        ...

    def score(self, requests: Sequence[Request], on_progress: Callable[[int], None]) -> list[LogLikelihood]:
        """The log-likelihood of each request's spans, in order; null with a note where it is not finite.

        ``on_progress`` is told how many tokens have just passed through the model.
        """
        ...

    def states(
        self,
        rows: Sequence[Sequence[int]],
        pool: Callable[[int, "torch.Tensor"], "torch.Tensor"],
        on_progress: Callable[[int], None],
    ) -> "list[NDArray[np.float32] | str]":
        """For each row of token ids what ``pool`` makes of its last hidden states; or the reason why there are none.

        ``pool(row, states)``: which row it is, and float32 (tokens, width) on the model's device. What it gives is
        brought to the host, so that the states of one forward pass are in memory at a time. UsageError where the
        backend or the model does not give them.
        """
        ...

    def answer(
        self, questions: Sequence[GenerationRequest], on_progress: Callable[[int], None]
    ) -> list[Sequence[int] | str]:
        """The tokens of the model's own answer to each question, in order; or the reason why there are none."""
        ...


def load(settings: ProxySettings, weights: Weights, checkpoints: Sequence[Weights] = ()) -> Backend:
    """Load the weights, after checking that they are whole, into the backend that the settings name.

    ``checkpoints``: the later ones of the same model, for ``Backend.checkpoints``.

    Raises UserError for a model that cannot be loaded, among them those that come with code of their own.
    """
    weights.verify()
    with loading("model", settings.model, "transformers or vLLM"):
        if settings.backend == "vllm":
            from curricle.curate.proxy.vllm_backend import VllmBackend

            return VllmBackend(settings, weights, checkpoints)
        from curricle.curate.proxy.transformers_backend import TransformersBackend

        return TransformersBackend(settings, weights, checkpoints)
