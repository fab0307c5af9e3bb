"""What a response is, in text and in tokens: the same for the proxy that scores it and the model that learns it.

A conversation is rendered as one text and tokenised once, and the response is found by position: the text of a
prefix of the conversation is a prefix of its text, so lengths of rendered prefixes are positions in the whole.
Neither text nor tokens are ever searched, because a response may be empty, repeat the prompt or hold markup of
the template, and tokenising pieces does not give the tokens of the whole.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from schemas.templates import NAMED

VERSION = 2
MOST_TURNS = 1000
ENCODED_AT_ONCE = 1 << 20
"""Characters: while a text is tokenised, every token of it takes some hundred bytes."""

RESPONSE_ROLE = "assistant"

Turn = dict[str, str]


@dataclass(frozen=True)
class Rendered:
    """One conversation as a model reads it: token ids, and which of them are the response.

    ``spans`` are half-open token ranges of the response inside ``ids``, in order. ``headers`` are the
    ranges of template tokens that introduce each of them (``<|im_start|>assistant``, for example).
    ``ids`` and ``spans`` are cut to the maximum length; the counts are from before the cut.
    ``note`` says why a conversation could not be rendered; it is then empty.
    """

    ids: Sequence[int] = ()
    spans: Sequence[tuple[int, int]] = ()
    headers: Sequence[tuple[int, int]] = ()
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    truncated: bool | None = None
    note: str | None = None


@dataclass(frozen=True)
class ResponseText:
    """Where one response is in the rendered text, in characters: its header begins, it begins, it ends."""

    header: int
    start: int
    end: int


class _Text(NamedTuple):
    """A conversation as text, where its responses are in it, and whether any of them says something."""

    text: str
    responses: list[ResponseText]
    answered: bool


class NotRendered(Exception):
    """Why a conversation has no rendering; it ends up in a row's notes."""


class Rendering:
    """Renders conversations with one fast tokenizer of transformers, one template and one maximum length.

    ``template`` is ``chat``, the tokenizer's own, or a name in ``schemas.templates.NAMED``.
    """

    def __init__(self, tokenizer: Any, template: str, max_length: int) -> None:
        assert tokenizer.is_fast, "only fast tokenizers report character offsets"
        self._tokenizer, self._template, self._max_length = tokenizer, template, max_length
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()

    def render(self, conversations: Sequence[list[Turn]], extras: Sequence[str | None]) -> list[Rendered]:
        """Render conversations, in their order; ``extras`` are the column ``extra`` of the table.

        A conversation that the template refuses is empty, with a note. A response is what follows its header up
        to and with the end-of-turn token; white space that the template puts after that is no part of it. A token
        belongs to a response if it holds at least one of its characters. What comes after the last response is
        left out, as no loss depends on it.

        An answer without text has no span and counts no response token: its end-of-turn token alone would give
        a loss that says nothing of the answer. In a conversation with other answers it is scored with them.
        """
        rendered: list[Rendered] = []
        waiting: list[_Text | Rendered] = []
        characters = 0
        for conversation, extra in zip(conversations, extras, strict=True):
            try:
                row = self._render_text(_with_input(conversation, extra) if self._named else conversation)
                characters += len(row.text)
                waiting.append(row)
            except NotRendered as refused:
                waiting.append(Rendered(note=str(refused)))
            if characters >= ENCODED_AT_ONCE:
                rendered += self._encode(waiting)
                waiting, characters = [], 0
        return rendered + self._encode(waiting)

    def _encode(self, rows: Sequence["_Text | Rendered"]) -> list[Rendered]:
        texts = [row.text for row in rows if isinstance(row, _Text)]
        encoded = iter(self._tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False))
        return [self._with_spans(next(encoded), row) if isinstance(row, _Text) else row for row in rows]

    @property
    def _named(self) -> str | None:
        return NAMED.get(self._template)

    def _render_text(self, conversation: list[Turn]) -> "_Text":
        if len(conversation) > MOST_TURNS:  # every prefix is rendered: the time grows with the square
            raise NotRendered(f"more than {MOST_TURNS} turns")
        text = self._apply(conversation)
        found = []
        for place, turn in enumerate(conversation):
            if turn["role"] == RESPONSE_ROLE:
                through = text if place == len(conversation) - 1 else self._apply(conversation[: place + 1])
                if not text.startswith(through):
                    raise NotRendered("the chat template renders earlier turns differently once later ones follow")
                found.append(self._response(conversation[:place], through))
        return _Text(text, found, _has_answer(conversation))

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
                chat_template=self._named,
                add_generation_prompt=add_generation_prompt,
                tokenize=False,
            )
        except Exception as error:  # a template is a program of somebody else's and may raise anything
            raise NotRendered(f"the chat template refused the conversation: {error}"[:300]) from error

    def _with_spans(self, encoding: Any, row: "_Text") -> Rendered:
        first = len(self._opening)
        ids, offsets = self._opening + encoding.ids, encoding.offsets
        ends = list(accumulate((end for _, end in offsets), max))
        # Some tokenizers report a token without the space before it: it then reaches back to the token before.
        starts = [min(start, before) for (start, _), before in zip(offsets, [0, *ends], strict=False)]
        spans, headers = [], []
        for response in row.responses:
            start = first + bisect_right(ends, response.start)
            end = first + bisect_left(starts, response.end)
            header = first + bisect_right(ends, response.header)
            spans.append((start, max(start, end)))
            headers.append((min(header, start), start))
        if spans:
            del ids[spans[-1][1] :]
        scored = sum(end - start for start, end in spans)
        limit = self._max_length
        kept = [place for place, (start, end) in enumerate(spans) if row.answered and start < min(end, limit)]
        return Rendered(
            ids=tuple(ids[:limit]),
            spans=tuple((spans[place][0], min(spans[place][1], limit)) for place in kept),
            headers=tuple(headers[place] for place in kept),
            prompt_tokens=len(ids) - scored,
            response_tokens=scored if row.answered else 0,
            truncated=len(ids) > limit,
        )

    def stops(self, config: Any) -> list[int]:
        """The tokens that end a response, as the model's configuration, the tokenizer and the template say."""
        probe = [{"role": "user", "content": "."}, {"role": RESPONSE_ROLE, "content": "."}]
        (rendered,) = self.render([probe], [None])
        named = config.get_text_config().eos_token_id
        found = {*(named if isinstance(named, list) else [named]), self._tokenizer.eos_token_id}
        if not rendered.truncated:
            found |= {*rendered.ids[-1:]} & {*self._tokenizer.all_special_ids}
        return sorted(found - {None})

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
        if self._named is None:
            return []
        bare, whole = (self._tokenizer.encode("a", add_special_tokens=special) for special in (False, True))
        return whole[: whole.index(bare[0])]


def _has_answer(conversation: list[Turn]) -> bool:
    return any(turn["role"] == RESPONSE_ROLE and (turn["content"] or "").strip() for turn in conversation)


def _with_input(conversation: list[Turn], extra: str | None) -> list[Turn]:
    """Take an Alpaca example's input out of its user turn again, so that a named template can place it."""
    given = json.loads(extra).get("input") if extra else None
    # the input belongs to the last question: what comes before it is history
    users = [place for place, turn in enumerate(conversation) if turn["role"] == "user"]
    last = users[-1] if users else None
    if last is None or not isinstance(given, str) or not given:
        return conversation
    content = conversation[last]["content"]
    if not content.endswith(f"\n\n{given}"):
        return conversation
    apart = {**conversation[last], "content": content.removesuffix(f"\n\n{given}"), "input": given}
    return [*conversation[:last], apart, *conversation[last + 1 :]]
