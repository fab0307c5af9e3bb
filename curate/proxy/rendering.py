"""The proxy's view of conversations: which tokenizer, which template, and what identifies them."""

import json
from functools import cached_property
from typing import Any

import pyarrow as pa

from curate.proxy.settings import ProxySettings
from curate.proxy.weights import Weights, tokenizer_files
from schemas.errors import UsageError
from schemas.fingerprint import digest, file_sha256
from schemas.rendering import VERSION, Rendered, Rendering
from schemas.templates import NAMED


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
        """What the tokens depend on: tokenizer and template by digest, maximum length, version of this code."""
        digests = {}
        for path in tokenizer_files(self.weights.directory):
            with open(path, "rb") as stream:
                digests[path.name] = file_sha256(stream)
        template = NAMED.get(self.settings.template)
        return {
            "tokenizer": digest(digests),
            "template": f"{self.settings.template} {digest(template)}" if template else self.settings.template,
            "max_length": self.settings.max_length,
            "version": VERSION,
        }

    def render(self, table: pa.Table) -> list[Rendered]:
        """Render the conversations of a table of examples, in its order: see ``schemas.rendering``."""
        return self._rendering.render(table["messages"].to_pylist(), table["extra"].to_pylist())

    @cached_property
    def _rendering(self) -> Rendering:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.weights.directory, trust_remote_code=False)
        if not tokenizer.is_fast:
            raise UsageError(
                f"the tokenizer of {self.settings.model} does not report character offsets",
                where="--proxy.model",
                remedy="choose a model with a tokenizer.json",
            )
        return Rendering(tokenizer, self.settings.template, self.settings.max_length)


def _has_chat_template(weights: Weights) -> bool:
    directory = weights.directory
    if any((directory / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    return bool(_config(weights, "tokenizer_config.json").get("chat_template"))


def _config(weights: Weights, name: str) -> dict[str, Any]:
    path = weights.directory / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
