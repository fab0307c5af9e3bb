"""The proxy's view of conversations: which tokenizer, which template, and what identifies them."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
from curricle.curate.proxy.pretokens import NumbersOfMany
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat.modelfiles import tokenizer_files
from curricle.schemas.chat.packaged import TOKENIZERS
from curricle.schemas.chat.rendering import IDENTITY, Rendered, Rendering
from curricle.schemas.chat.templates import NAMED
from curricle.schemas.common.errors import UsageError
from curricle.schemas.fingerprint import digest
from curricle.schemas.inputs import Turn
from curricle.schemas.sums import digests

_SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
_SPLITS = ("added_tokens", "normalizer", "pre_tokenizer", "model", "post_processor")


class Renderer:
    """Renders conversations for one model. Building it is cheap; the tokenizer is loaded when first used.

    Raises UsageError if the model has no chat template and none is named, or reads fewer tokens than asked for.
    """

    def __init__(self, weights: Weights, settings: ProxySettings) -> None:
        self.weights, self.settings = weights, settings
        if settings.template == "chat" and not _has_chat_template(weights):
            found = f"{settings.model} has no chat template"
            raise UsageError(found, where="--proxy.template", remedy="give --proxy.template alpaca")
        positions = _config(weights, "config.json").get("max_position_embeddings")
        if positions is not None and settings.max_length > positions:
            raise UsageError(
                f"{settings.model} reads at most {positions} tokens, not {settings.max_length}",
                where="--proxy.max-length",
                remedy=f"give --proxy.max-length {positions}",
            )

    def identity(self) -> dict[str, Any]:
        """What the tokens depend on: tokenizer and template by digest, maximum length; the date that is told."""
        directory = self.weights.directory
        template = NAMED.get(self.settings.template)
        return {
            "tokenizer": digest(digests(directory, tokenizer_files(directory))),
            "template": f"{self.settings.template} {digest(template)}" if template else self.settings.template,
            "end_of_turn": self.settings.end_of_turn,
            "max_length": self.settings.max_length,
            **IDENTITY,
        }

    def check_same_model(self, other: "Renderer") -> None:
        """UsageError unless the other is a checkpoint of the same model: of one shape, and with the same renderings."""
        differing = [name for name in _SHAPE if self._shape[name] != other._shape[name]]
        if self.identity() != other.identity() and self._meaning != other._meaning:
            differing.append("the tokenizer or its template")
        if differing:
            raise UsageError(
                f"{other.settings.model} differs from {self.settings.model} in {', '.join(differing)}",
                where="--proxy.checkpoints",
                remedy="name checkpoints of one model, each with the tokenizer that it was trained with",
            )

    @property
    def _shape(self) -> dict[str, Any]:
        config = _config(self.weights, "config.json")
        return {name: config.get("text_config", config).get(name) for name in _SHAPE}

    @cached_property
    def _meaning(self) -> list[Any]:
        """What decides the tokens of a text. The files that say it are written anew with every checkpoint."""
        tokenizer = self._tokenizer
        written = json.loads(tokenizer.backend_tokenizer.to_str())
        template = tokenizer.chat_template if self.settings.template == "chat" else None
        return [[written[name] for name in _SPLITS], template, tokenizer.bos_token, tokenizer.eos_token]

    def render(self, table: pa.Table) -> list[Rendered]:
        """Render the conversations of a table of examples, in its order: see ``schemas.chat.rendering``."""
        return self.render_turns(table["messages"].to_pylist(), table["extra"].to_pylist())

    def render_turns(self, conversations: Sequence[list[Turn]], extras: Sequence[str | None]) -> list[Rendered]:
        """The same for conversations and their ``extra`` fields, JSON, as they stand in a table."""
        return self._rendering.render(conversations, extras)

    @cached_property
    def _rendering(self) -> Rendering:
        settings, ends = self.settings, self.settings.end_of_turn == "yes"
        return Rendering(self._tokenizer, settings.template, settings.max_length, ends, NumbersOfMany)

    @cached_property
    def _tokenizer(self) -> Any:
        import transformers

        # AutoTokenizer finds out by itself, but imports torch and the code of generation for it: 8 s of CPU
        name = TOKENIZERS.get(self.weights.identity.get("gguf_sha256", ""), "AutoTokenizer")
        tokenizer = getattr(transformers, name).from_pretrained(self.weights.directory, trust_remote_code=False)
        if not tokenizer.is_fast:
            raise UsageError(
                f"the tokenizer of {self.settings.model} does not report character offsets",
                where="--proxy.model",
                remedy="choose a model with a tokenizer.json",
            )
        return tokenizer


def _has_chat_template(weights: Weights) -> bool:
    directory = weights.directory
    if any((directory / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    return bool(_config(weights, "tokenizer_config.json").get("chat_template"))


def _config(weights: Weights, name: str) -> dict[str, Any]:
    path = weights.directory / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
