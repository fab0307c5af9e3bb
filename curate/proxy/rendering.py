"""From conversations to token ids and response spans.

A conversation is rendered as one text and tokenised once, and the response is found by position: the text of a
prefix of the conversation is a prefix of its text, so lengths of rendered prefixes are positions in the whole.
Neither text nor tokens are ever searched, because a response may be empty, repeat the prompt or hold markup of
the template, and tokenising pieces does not give the tokens of the whole.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from curate.batch import RESPONSE_ROLE, Rendered
from curate.proxy.settings import ProxySettings
from curate.proxy.templates import NAMED
from curate.proxy.weights import Weights, tokenizer_files
from schemas.errors import UsageError
from schemas.fingerprint import digest, file_sha256

VERSION = 1

Turn = dict[str, str]


@dataclass(frozen=True)
class ResponseText:
    """Where one response is in the rendered text, in characters: its header begins, it begins, it ends."""

    header: int
    start: int
    end: int


class NotRendered(Exception):
    """Why a conversation has no rendering; it ends up in a row's notes."""


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
        """Render the conversations of a table of examples, in its order.

        A conversation that the template refuses is empty, with a note. A response is what follows its header up
        to and with the end-of-turn token; white space that the template puts after that is no part of it. A token
        belongs to a response if it holds at least one of its characters. What comes after the last response is
        left out, as no loss depends on it.

        An answer without text has no span and counts no response token: its end-of-turn token alone would give
        a loss that says nothing of the answer. In a conversation with other answers it is scored with them.
        """
        conversations = self._conversations(table)
        rows: list[Rendered | tuple[str, list[ResponseText]]] = []
        for conversation in conversations:
            try:
                rows.append(self._render_text(conversation))
            except NotRendered as refused:
                rows.append(Rendered(note=str(refused)))
        texts = [row[0] for row in rows if isinstance(row, tuple)]
        encoded = iter(self._tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False))
        return [
            self._with_spans(next(encoded), row[1], _has_answer(conversation)) if isinstance(row, tuple) else row
            for row, conversation in zip(rows, conversations, strict=True)
        ]

    def _conversations(self, table: pa.Table) -> list[list[Turn]]:
        conversations: list[list[Turn]] = table["messages"].to_pylist()
        if self.settings.template == "alpaca":
            for conversation, extra in zip(conversations, table["extra"].to_pylist(), strict=True):
                _split_input(conversation, extra)
        return conversations

    def _render_text(self, conversation: list[Turn]) -> tuple[str, list[ResponseText]]:
        text = self._apply(conversation)
        found = []
        for place, turn in enumerate(conversation):
            if turn["role"] == RESPONSE_ROLE:
                through = text if place == len(conversation) - 1 else self._apply(conversation[: place + 1])
                if not text.startswith(through):
                    raise NotRendered("the chat template renders earlier turns differently once later ones follow")
                found.append(self._response(conversation[:place], through))
        return text, found

    def _response(self, before: list[Turn], through: str) -> ResponseText:
        """The last response in ``through``, the text of the turns ``before`` it and its own."""
        header = self._header
        if before:
            opened = self._apply(before, add_generation_prompt=True)
            start = len(opened) if through.startswith(opened) else -1
        else:  # what comes first is the template's own, such as a default system prompt
            start = through.find(header) + len(header) if header and header in through else -1
        if start < 0:
            raise NotRendered("the chat template does not open a response as its generation prompt does")
        begins = start - len(header) if through.endswith(header, 0, start) else start
        return ResponseText(begins, start, max(start, len(through.rstrip())))

    def _apply(self, conversation: list[Turn], add_generation_prompt: bool = False) -> str:
        try:
            return self._tokenizer.apply_chat_template(
                conversation,
                chat_template=NAMED.get(self.settings.template),
                add_generation_prompt=add_generation_prompt,
                tokenize=False,
            )
        except Exception as error:  # a template is a program of somebody else's and may raise anything
            raise NotRendered(f"the chat template refused the conversation: {error}"[:300]) from error

    def _with_spans(self, encoding: Any, found: list[ResponseText], answered: bool) -> Rendered:
        first = len(self._opening)
        ids = self._opening + encoding.ids
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        ends = np.maximum.accumulate(offsets[:, 1])
        # Some tokenizers report a token without the space before it: it then reaches back to the token before.
        starts = np.minimum(offsets[:, 0], np.concatenate(([0], ends[:-1]))) if len(ends) else offsets[:, 0]
        spans, headers = [], []
        for response in found:
            start = first + int(np.searchsorted(ends, response.start, side="right"))
            end = first + int(np.searchsorted(starts, response.end, side="left"))
            header = first + int(np.searchsorted(ends, response.header, side="right"))
            spans.append((start, max(start, end)))
            headers.append((min(header, start), start))
        if spans:
            del ids[spans[-1][1] :]
        scored = sum(end - start for start, end in spans)
        limit = self.settings.max_length
        kept = [place for place, (start, end) in enumerate(spans) if answered and start < min(end, limit)]
        return Rendered(
            ids=tuple(ids[:limit]),
            spans=tuple((spans[place][0], min(spans[place][1], limit)) for place in kept),
            headers=tuple(headers[place] for place in kept),
            prompt_tokens=len(ids) - scored,
            response_tokens=scored if answered else 0,
            truncated=len(ids) > limit,
        )

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.weights.directory, trust_remote_code=False)
        if not tokenizer.is_fast:
            raise UsageError(
                f"the tokenizer of {self.settings.model} does not report character offsets",
                where="--proxy.model",
                remedy="choose a model with a tokenizer.json",
            )
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _header(self) -> str:
        """The generation prompt: what the template puts before a response."""
        probe = [{"role": "user", "content": "."}]
        try:
            asked, opened = self._apply(probe), self._apply(probe, add_generation_prompt=True)
        except NotRendered:
            return ""
        return opened[len(asked) :] if opened.startswith(asked) else ""

    @cached_property
    def _opening(self) -> list[int]:
        """Tokens that the tokenizer puts before a text, such as BOS. A chat template writes its own."""
        if self.settings.template == "chat":
            return []
        bare, whole = (self._tokenizer.encode("a", add_special_tokens=special) for special in (False, True))
        return whole[: whole.index(bare[0])]


def _has_chat_template(weights: Weights) -> bool:
    directory = weights.directory
    if any((directory / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    return bool(_config(weights, "tokenizer_config.json").get("chat_template"))


def _config(weights: Weights, name: str) -> dict[str, Any]:
    path = weights.directory / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _has_answer(conversation: list[Turn]) -> bool:
    return any(turn["role"] == RESPONSE_ROLE and turn["content"].strip() for turn in conversation)


def _split_input(conversation: list[Turn], extra: str | None) -> None:
    """Take an Alpaca example's input out of its user turn again, so that the template can place it."""
    given = json.loads(extra).get("input") if extra else None
    user = next((turn for turn in conversation if turn["role"] == "user"), None)
    if user and isinstance(given, str) and given and user["content"].endswith(f"\n\n{given}"):
        user["content"] = user["content"].removesuffix(f"\n\n{given}")
        user["input"] = given
