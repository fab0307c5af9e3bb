"""What a backend is asked to answer, and how it draws and reads an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from curricle.curate.batch import Generated
from curricle.curate.proxy.settings import ProxySettings
from curricle.schemas.chat.generation import cut, draw_seed, no_room
from curricle.schemas.chat.rendering import Rendering


@dataclass(frozen=True)
class GenerationRequest:
    """The tokens that an answer follows, and the seed of its draws."""

    ids: Sequence[int]
    seed: int


class Decoder:
    """What answers of one model have in common: which tokens end one, how many fit, and how tokens become text."""

    def __init__(self, tokenizer: Any, config: Any, settings: ProxySettings) -> None:
        self.tokenizer, self.settings = tokenizer, settings.generation
        self._config, self._rendering = config, Rendering(tokenizer, settings.template, settings.max_length)

    @cached_property
    def stops(self) -> list[int]:
        return self._rendering.stops(self._config)

    def question(self, prompt: Sequence[int], example_id: str) -> GenerationRequest | str:
        """What to ask the model, or the reason why it cannot be asked."""
        lacking = no_room(self._config, len(prompt), self.settings.max_new_tokens)
        return lacking or GenerationRequest(prompt, draw_seed(self.settings.seed, example_id))

    def generated(self, tokens: Sequence[int] | str) -> Generated:
        """An answer from the tokens that were drawn, or the reason why there are none."""
        if isinstance(tokens, str):
            return Generated(note=tokens)
        tokens = cut(tokens, self.stops)
        truncated = tokens[-1] not in self.stops
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return Generated(text, len(tokens), truncated, f"cut after {len(tokens)} tokens" if truncated else None)
