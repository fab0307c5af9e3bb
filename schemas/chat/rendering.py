"""What a response is, in tokens: the same for the proxy that scores it and the model that learns it.

A conversation is rendered as one text and tokenised once, and the response is found by its position in the text (see
``schemas.chat.responses``). Tokens are never searched, because a response may be empty, repeat the prompt or hold
markup of the template, and tokenising pieces does not give the tokens of the whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from curricle.schemas.chat.pretokens import NumbersByDict, PretokenCache, PretokenNumbers, Splitter, TokenisedTexts
from curricle.schemas.chat.responses import DATE, RESPONSE_ROLE, ChatTemplate, NotRendered, Text
from curricle.schemas.inputs import Turn, answer_turns, context_turns, with_input

VERSION = 3
IDENTITY = {"version": VERSION, "date": f"{DATE:%Y-%m-%d}"}
"""What a rendering depends on beside the tokenizer, the template and the options: this code, and the date it gives."""
ENCODED_AT_ONCE = 1 << 20
"""Characters: while a text is tokenised, every token of it takes some hundred bytes."""

Messages = list[Turn] | None


class _Later:
    """What a row has of its tokens until somebody asks for them: who counts them makes no list of each row."""

    __slots__ = ("_later",)


@dataclass(frozen=True, slots=True)
class Rendered(_Later):
    """One conversation as a model reads it: token ids, and which of them are the response.

    ``spans`` are half-open token ranges of the response inside ``ids``, in order, and ``answers`` says which of the
    conversation's responses each is, from 0. ``headers`` are the ranges of template tokens that introduce each of them
    (``<|im_start|>assistant``, for example).
    ``ids`` and ``spans`` are cut to the maximum length; the counts are from before the cut.
    ``note`` says why a conversation could not be rendered; it is then empty. ``remark`` says which responses are
    context and no span, as the template leaves them out or alters them, and which turns of the prompt it leaves out.
    """

    ids: Sequence[int] = ()
    spans: Sequence[tuple[int, int]] = ()
    headers: Sequence[tuple[int, int]] = ()
    answers: Sequence[int] = ()
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    truncated: bool | None = None
    note: str | None = None
    remark: str | None = None

    @classmethod
    def with_later(cls, ids: Callable[[], Sequence[int]], *others: Any, **named: Any) -> "Rendered":
        """A row whose ``ids`` are made when they are first read, compared or pickled."""
        row = cls((), *others, **named)
        object.__delattr__(row, "ids")
        object.__setattr__(row, "_later", ids)
        return row

    if not TYPE_CHECKING:  # it would let every name pass

        def __getattr__(self, name: str) -> Any:
            """Asked for what is not set."""
            if name != "ids":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            object.__setattr__(self, "ids", self._later())
            object.__delattr__(self, "_later")
            return self.ids


def beyond(ids: Sequence[int], vocabulary: float) -> str | None:
    """Why a model with so many embeddings cannot read these tokens, if it cannot.

    A tokenizer to which tokens were added has ids that the model knows nothing of until its embedding is made larger.
    """
    highest = max(ids, default=0)
    return f"token {highest} is beyond the model's {vocabulary} embeddings" if highest >= vocabulary else None


class Rendering:
    """Renders conversations with one fast tokenizer of transformers, one template and one maximum length.

    ``template`` is ``chat``, the tokenizer's own, or a name in ``schemas.chat.templates.NAMED``. Without
    ``end_of_turn`` a response is what was said, without the token that ends the turn. ``numbers``: see
    ``PretokenCache``. UsageError for a template that draws lots.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str,
        max_length: int,
        end_of_turn: bool = True,
        numbers: Callable[[Splitter], PretokenNumbers] = NumbersByDict,
    ) -> None:
        assert tokenizer.is_fast, "only fast tokenizers report character offsets"
        self._tokenizer, self._template, self._max_length = tokenizer, template, max_length
        self._end_of_turn, self._numbers = end_of_turn, numbers
        self._chat_template = ChatTemplate(tokenizer, template)
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()

    def render(self, conversations: Sequence[Messages], extras: Sequence[str | None]) -> list[Rendered]:
        """Render conversations, in their order; ``extras`` are the column ``extra`` of the table.

        A conversation that the template refuses is empty, with a note. A response is what was said, up to and with the
        end-of-turn token; what the template puts before it, such as an empty thought, and white space after that token
        are no part of it. A token belongs to a response if it holds at least one of its characters. What comes after
        the last response is left out, as no loss depends on it.

        An answer without text has no span and counts no response token: its end-of-turn token alone would give
        a loss that says nothing of the answer. In a conversation with other answers it is scored with them.
        """
        rendered: list[Rendered] = []
        waiting: list[Text | Rendered] = []
        characters = 0
        for conversation, extra in zip(conversations, extras, strict=True):
            try:
                row = self._read(conversation, extra)
                characters += len(row.text)
                waiting.append(row)
            except NotRendered as refused:
                waiting.append(Rendered(note=str(refused)))
            if characters >= ENCODED_AT_ONCE:
                rendered += self._encode(waiting)
                waiting, characters = [], 0
        return rendered + self._encode(waiting)

    def _read(self, conversation: Messages, extra: str | None) -> Text:
        if not conversation:
            raise NotRendered("there is no conversation")
        if any(turn is None or None in turn.values() for turn in conversation):
            raise NotRendered("a turn has no role or no content")
        context = context_turns([turn["role"] for turn in conversation], extra)
        answers = {*answer_turns(conversation)}
        if answers and answers <= context:
            raise NotRendered("every answer is context, and none is to be learnt")
        named = self._chat_template.named
        return self._chat_template.read(with_input(conversation, extra) if named else conversation, context)

    def _encode(self, rows: Sequence[Text | Rendered]) -> list[Rendered]:
        texts = [row for row in rows if isinstance(row, Text)]
        read = iter(self._with_spans(self._cache.encode([each.text for each in texts]), texts))
        return [next(read) if isinstance(row, Text) else row for row in rows]

    def _with_spans(self, tokens: TokenisedTexts, texts: Sequence[Text]) -> Iterator[Rendered]:
        first, limit = len(self._opening), self._max_length
        responses = [response for text in texts for response in text.responses]
        each = np.repeat(np.arange(len(texts)), [len(text.responses) for text in texts])
        numbers, headers, starts, content_ends, ends = np.array(responses, np.int64).reshape(-1, 5).T
        starts = first + tokens.ended(each, starts)
        ends = np.maximum(starts, first + tokens.begun(each, ends if self._end_of_turn else content_ends))
        headers = np.minimum(starts, first + tokens.ended(each, headers))
        has_answer = np.array([text.has_answer for text in texts], np.bool_)
        scored = np.bincount(each, ends - starts, len(texts)).astype(np.int64)
        lengths = first + tokens.counts
        lengths[each] = ends  # of several the last one
        inside = np.flatnonzero(has_answer[each] & (starts < np.minimum(ends, limit)))
        numbers, headers, starts, ends = (part[inside].tolist() for part in (numbers, headers, starts, ends))
        spans = tuple([(start, min(end, limit)) for start, end in zip(starts, ends, strict=True)])
        answers, introductions = tuple(numbers), tuple(zip(headers, starts, strict=True))
        edges = np.searchsorted(each[inside], np.arange(len(texts) + 1)).tolist()
        counts = (lengths - scored, np.where(has_answer, scored, 0), lengths > limit)
        rows = zip(np.minimum(lengths, limit).tolist(), *(count.tolist() for count in counts), strict=True)
        for index, (text, (length, prompt, response, truncated)) in enumerate(zip(texts, rows, strict=True)):
            part = slice(edges[index], edges[index + 1])
            yield Rendered.with_later(
                partial(self._ids, tokens, index, length),
                spans[part],
                introductions[part],
                answers[part],
                prompt,
                response,
                truncated,
                remark=text.note,
            )

    def _ids(self, tokens: TokenisedTexts, index: int, length: int) -> tuple[int, ...]:
        return (*self._opening, *tokens.ids(index))[:length]

    def stops(self, config: Any) -> list[int]:
        """The tokens that end a response, as the model's configuration, the tokenizer and the template say."""
        probe = [{"role": "user", "content": "."}, {"role": RESPONSE_ROLE, "content": "."}]
        ended = self if self._end_of_turn else Rendering(self._tokenizer, self._template, self._max_length)
        (rendered,) = ended.render([probe], [None])
        named = config.get_text_config().eos_token_id
        ends = {*(named if isinstance(named, list) else [named]), self._tokenizer.eos_token_id}
        if not rendered.truncated:
            ends |= {*rendered.ids[-1:]} & {*self._tokenizer.all_special_ids}
        return sorted(ends - {None})

    @cached_property
    def _cache(self) -> PretokenCache:
        return PretokenCache(self._tokenizer.backend_tokenizer, self._numbers)

    @cached_property
    def _opening(self) -> list[int]:
        """Tokens that the tokenizer puts before a text, such as BOS. A chat template writes its own."""
        if self._chat_template.named is None:
            return []
        bare, whole = (self._tokenizer.encode("a", add_special_tokens=special) for special in (False, True))
        return whole[: whole.index(bare[0])]
