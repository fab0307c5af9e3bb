"""What runs the proxy model."""

from collections.abc import Callable, Sequence
from typing import Protocol

from curricle.curate.batch import LogLikelihood
from curricle.curate.proxy.questions import Decoder, GenerationRequest
from curricle.curate.proxy.sequences import Request, SpecialTokens
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights, loading


class Backend(Protocol):
    """A loaded model. A row's score does not depend on what else is scored with it (docs/design.md, law 4)."""

    special: SpecialTokens
    vocabulary: int
    """How many tokens the model has embeddings for; a tokenizer may have more."""
    speech: Decoder

    def take(self, weights: Weights) -> None:
        """Put the weights of another checkpoint of the same model in the place of those that are loaded.

        One model is in memory at a time, however many checkpoints are compared.
        """
        ...

    def score(self, requests: Sequence[Request], on_progress: Callable[[int], None]) -> list[LogLikelihood]:
        """The log-likelihood of each request's spans, in order; null with a note where it is not finite.

        ``on_progress`` is told how many tokens have just passed through the model.
        """
        ...

    def answer(
        self, questions: Sequence[GenerationRequest], on_progress: Callable[[int], None]
    ) -> list[Sequence[int] | str]:
        """The tokens of the model's own answer to each question, in order; or the reason why there are none."""
        ...


def load(settings: ProxySettings, weights: Weights) -> Backend:
    """Load the weights, after checking that they are whole, into the backend that the settings name.

    Raises UserError for a model that cannot be loaded, among them those that come with code of their own.
    """
    weights.verify()
    with loading("model", settings.model, "transformers or vLLM"):
        if settings.backend == "vllm":
            from curricle.curate.proxy.vllm_backend import VllmBackend

            return VllmBackend(settings, weights)
        from curricle.curate.proxy.transformers_backend import TransformersBackend

        return TransformersBackend(settings, weights)
