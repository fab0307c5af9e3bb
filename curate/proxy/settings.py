"""What a user chooses about the proxy model. Standard library only, because ``--help`` reads it."""

from dataclasses import dataclass, field
from typing import Literal

from curricle.schemas.common.config import check_ranges, option
from curricle.schemas.common.errors import UsageError

MOST_TOKENS = 2**31 - 1
"""Of a row and of a forward pass: several kernels count a tensor's elements in 32 bits."""


def no_states() -> UsageError:
    """What vLLM answers who asks for hidden states."""
    return UsageError(
        "vLLM does not give hidden states",
        where="--proxy.backend",
        remedy="give --proxy.backend transformers, or leave the metric out",
    )


@dataclass(frozen=True)
class GenerationSettings:
    max_new_tokens: int = option("tokens after which the proxy's own answer is cut", 256, at_least=1, at_most=2**20)
    temperature: float = option(
        "of the distribution that an answer is drawn from; 0 takes the likeliest token", 1.0, at_least=0
    )
    seed: int = option("of the draws; those for a row depend on its example_id and on nothing else", 0)


@dataclass(frozen=True)
class ProxySettings:
    model: str = option(
        "smollm2-135m, gemma3-270m, a local directory, or a hub id as org/name or org/name@revision",
        "smollm2-135m",
        path=True,
    )
    backend: Literal["transformers", "vllm"] = option("what runs the model", "transformers")
    checkpoints: tuple[str, ...] = option(
        "checkpoints of one model, instead of --proxy.model: P0 before training, then P1,P2,… after each epoch; "
        "adds the metric lp, and other metrics are those of P0",
        (),
        path=True,
    )
    template: Literal["chat", "alpaca", "plain"] = option(
        "the model's own chat template, the Alpaca prompt for a base model, or plain: no markup", "chat"
    )
    end_of_turn: Literal["yes", "no"] = option(
        "whether the token that ends a response counts as one of its tokens; for Cherry LLM and Superfiltering it does "
        "not",
        "yes",
    )
    max_length: int = option(
        "tokens of an example that the model reads; the rest is cut off on the right",
        2048,
        at_least=1,
        at_most=MOST_TOKENS,
    )
    dtype: Literal["float32", "bfloat16", "float16"] = option(
        "arithmetic of the model; the half precisions are faster on a GPU and move a loss by about 1e-2", "float32"
    )
    batch_tokens: int | None = option(
        "tokens in a forward pass, padding included; left out: what suits the device",
        None,
        at_least=1,
        at_most=MOST_TOKENS,
    )
    tensor_parallel: int = option(
        "GPUs over which vLLM spreads one model, for each worker: for models that are too large for one", 1, at_least=1
    )
    generation: GenerationSettings = field(default=GenerationSettings())

    @property
    def rendering(self) -> dict[str, str]:
        """What the columns that rest on a rendering say of it."""
        return {"template": self.template, "end_of_turn": self.end_of_turn}

    def __post_init__(self) -> None:
        check_ranges(self, prefix="proxy.")
        if self.tensor_parallel > 1 and self.backend != "vllm":
            raise UsageError(
                f"--proxy.tensor-parallel is {self.tensor_parallel}, and {self.backend} runs a model on one GPU",
                remedy="add --proxy.backend vllm, or leave it out",
            )
        if len(self.checkpoints) == 1:
            raise UsageError("--proxy.checkpoints names one", remedy="name two or more: P0,P1,…")
        if self.checkpoints and self.model not in (ProxySettings.model, *self.checkpoints):
            raise UsageError(
                f"--proxy.model {self.model} stands beside --proxy.checkpoints", remedy="leave it out: P0 is the model"
            )
