"""What a user chooses about the proxy model. Standard library only, because ``--help`` reads it."""

from dataclasses import dataclass
from typing import Literal

from schemas.config import option
from schemas.errors import UsageError


@dataclass(frozen=True)
class ProxySettings:
    model: str = option("smollm2-135m, a local directory, or a hub id as org/name or org/name@revision", "smollm2-135m")
    backend: Literal["transformers", "vllm"] = option("what runs the model", "transformers")
    template: Literal["chat", "alpaca"] = option(
        "the model's own chat template, or the Alpaca prompt for a base model", "chat"
    )
    max_length: int = option("tokens of an example that the model reads; the rest is cut off on the right", 2048)
    dtype: Literal["float32", "bfloat16", "float16"] = option(
        "arithmetic of the model; the half precisions are faster on a GPU and move a loss by about 1e-2", "float32"
    )
    batch_tokens: int | None = option(
        "tokens in a forward pass, padding included; left out: 2048 on a CPU, more on a GPU", None
    )

    def __post_init__(self) -> None:
        for name in ("max_length", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--proxy.{name.replace('_', '-')} is {value}", remedy="give 1 or more")
