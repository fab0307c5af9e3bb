"""Where the responses are in the text that a chat template makes of a conversation.

A template is a program of somebody else's: it may trim what is said, take thoughts out of it, put an empty one before
it, move turns or repeat them. So nothing is assumed of its text and nothing is searched in it; it is asked. The same
conversation is rendered again with a sentinel, a character that its text does not have, instead of each answer.
What comes before and after the sentinel is the template's, and the answer is what stands between that in the text.
A turn of the prompt that can be replaced without a change to the text is one that the template leaves out.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from functools import cached_property, partial
from itertools import chain
from typing import Any, NamedTuple

from curricle.schemas.chat.shapes import ConversationShape, Key, Prover, Spans, key_of
from curricle.schemas.chat.templates import NAMED
from curricle.schemas.common.errors import UsageError
from curricle.schemas.inputs import RESPONSE_ROLE as RESPONSE_ROLE
from curricle.schemas.inputs import Turn, answer_turns

MOST_TURNS = 1000
MOST_LOOKS = 64
"""Renderings of one conversation, at most, to tell which turns of its prompt the template leaves out."""
DATE = datetime(2024, 7, 26)
"""What a template that asks for the date is told: the same text has to give the same numbers tomorrow (docs/design.md,
law 3).

It is the date that Llama 3's templates say of themselves where they cannot ask for one.
"""
MOST_SHAPES, LARGEST_SHAPE = 256, 100
"""For so many shapes of conversations proofs are kept, and for shapes of so many turns."""
LONGEST_TEXT = 1 << 20
"""Characters: a shorter text lacks characters that can mark answers."""
_OPTIONS: dict[str, Any] = {
    "add_generation_prompt": False,
    "tokenize": False,
    "strftime_now": DATE.strftime,  # the one clock that templates are given
}
_SENTINELS = range(0xE000, 0x110000)  # for private use first: no template has reason to treat those in a special way
_DRAWS = re.compile(r"\blipsum\b|\|\s*random\b|\bmap\(\s*[\"']random\b")


class NotRendered(Exception):
    """Why a conversation has no rendering; it ends up in a row's notes."""


class Response(NamedTuple):
    """One response in the rendered text, in characters: its header begins, it begins, it ends, its turn ends.

    ``number`` counts the conversation's responses from 0, those that are not found in the text too.
    """

    number: int
    header: int
    start: int
    content_end: int
    end: int


class Text(NamedTuple):
    """A conversation as text, and the responses that are found in it, in order.

    ``has_answer``: whether any of those says something. ``note``: answers that are not found and count as context, and
    turns of the prompt that are left out, if any.
    """

    text: str
    responses: list[Response]
    has_answer: bool
    note: str | None = None


class _Markup(NamedTuple):
    """What a template puts around answers: ``headers`` before the last one of a conversation, then before others.

    ``closing`` comes after the last one; None where the template does not say. ``afterwards`` comes after every
    conversation, whoever spoke last.
    """

    headers: tuple[Sequence[str], Sequence[str]]
    closing: str | None
    afterwards: str


def _whole(content: str) -> str:
    return content


_TRIMS: tuple[Callable[[str], str], ...] = (_whole, str.strip, str.lstrip, str.rstrip)
"""What templates do to the white space around every answer."""


class ChatTemplate:
    """The chat template of a tokenizer, or one of ``schemas.chat.templates.NAMED``.

    UsageError for a template that draws random numbers: a text has one rendering.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer, self.named = tokenizer, NAMED.get(name)
        self._shapes: dict[Key, ConversationShape | None] = {}
        source = str(self.named or tokenizer.chat_template)
        if _DRAWS.search(source):
            raise UsageError(
                "the chat template draws random numbers", remedy="take them out of it, or name another template"
            )

    def read(self, conversation: Sequence[Turn], context: Collection[int] = ()) -> Text:
        """The text of a conversation, and the responses in it; turns of the assistant at ``context`` are none.

        An answer that the template leaves out or alters is not found; white space at its ends does not count.
        Raises NotRendered if the template refuses the conversation, or if it has answers and none of them is found.
        """
        indices = answer_turns(conversation)
        text, spans, left_out = self._by_shape(conversation) or self._by_sentinels(conversation, indices)
        responses = [
            Response(number, self._header(text, start, last), start, content_end, self._end(text, content_end, last))
            for number, (index, span) in enumerate(zip(indices, spans, strict=True))
            if span is not None and index not in context
            for start, content_end, last in [(*span, index == len(conversation) - 1)]
        ]
        has_answer = any(conversation[indices[response.number]]["content"].strip() for response in responses)
        lost = sum(
            span is None and index not in context and bool(conversation[index]["content"].strip())
            for index, span in zip(indices, spans, strict=True)
        )
        if lost and not has_answer:
            raise NotRendered("the chat template leaves out or alters every answer")
        notes = [left_out]
        if lost:
            notes.append(f"{lost} of {len(indices)} answers are context: the chat template leaves out or alters them")
        return Text(text, responses, has_answer, "; ".join(filter(None, notes)) or None)

    def _by_shape(self, conversation: Sequence[Turn]) -> tuple[str, Spans, str] | None:
        """The text of a conversation, the range of every answer, and that nothing is left out, where this is proved."""
        key = key_of(conversation)
        if key not in self._shapes:
            if len(self._shapes) >= MOST_SHAPES or len(key) > LARGEST_SHAPE:
                return None
            self._shapes[key] = self._shape(conversation)
        shape = self._shapes[key]
        filled = shape.fill(conversation) if shape else None
        return (*filled, "") if filled and len(filled[0]) < LONGEST_TEXT else None

    def _shape(self, conversation: Sequence[Turn]) -> ConversationShape | None:
        """The shape of a conversation, after a trial on contents that are known to differ."""
        shape = self._prover.prove(conversation) if self._prover else None
        if shape is None:
            return None
        content = " {} {}\n" if shape.trims_alike else "{} {}"
        trial = [
            {name: text if name == "role" else content.format(name, index) for name, text in turn.items()}
            for index, turn in enumerate(conversation)
        ]
        filled = shape.fill(trial)
        indices = answer_turns(conversation)
        return shape if filled and (*filled, "") == self._by_sentinels(trial, indices) else None

    @cached_property
    def _prover(self) -> Prover | None:
        """None for a template that cannot be compiled: each conversation is refused, and the note says why."""
        try:
            source = self.named or self._tokenizer.get_chat_template()
            return Prover(partial(self._tokenizer.apply_chat_template, **_OPTIONS), source)
        except Exception:  # a template is a program of somebody else's and may raise anything
            return None

    def _by_sentinels(
        self, conversation: Sequence[Turn], indices: Sequence[int]
    ) -> tuple[str, Sequence[tuple[int, int] | None], str]:
        """The same of any conversation that the template takes: None for an answer that is not found."""
        text = self._apply(conversation)
        spans = self._together(text, conversation, indices)
        if spans is None:
            spans = self._apart(text, conversation, indices)
        return text, spans, self._left_out(text, conversation, indices)

    def _left_out(self, text: str, conversation: Sequence[Turn], indices: Sequence[int]) -> str:
        """Which turns that say something before the last of the answers at ``indices`` are left out, or altered.

        This takes one rendering, with a sentinel of its own behind each of them. A turn of which that is missing is
        looked at again: it is not in the text if another content gives the same, nor is it if its words are not there.
        """
        prompt = [
            index
            for index, turn in enumerate(conversation[: indices[-1]] if indices else conversation)
            if turn["role"] != RESPONSE_ROLE and turn["content"].strip()
        ]
        characters = {*text}
        sentinels = dict(zip(prompt, (each for each in map(chr, _SENTINELS) if each not in characters), strict=False))
        marked = list(conversation)
        for index, sentinel in sentinels.items():
            marked[index] = {**conversation[index], "content": conversation[index]["content"] + sentinel}
        absent = {index for index in prompt if conversation[index]["content"].strip() not in text}
        try:
            shown = {*self._apply(marked)} if prompt else set()
            doubtful = [index for index in prompt if sentinels.get(index) not in shown]
        except NotRendered:  # a template that reads what is said: whether it writes it otherwise, nobody can ask
            doubtful, absent = sorted(absent), set()
        groups, out = [doubtful] if doubtful else [], []
        for _ in range(MOST_LOOKS):
            if not groups:
                break
            group = groups.pop()
            if {*group} <= absent or self._pieces(text, conversation, group) == [text]:
                out += group
            elif len(group) > 1:
                groups += [group[len(group) // 2 :], group[: len(group) // 2]]
        unknown = sum(map(len, groups))
        if not out and not unknown:
            return ""
        roles = ", ".join(dict.fromkeys(conversation[index]["role"] for index in sorted(out)))
        note = f"the chat template leaves out or alters {len(out)} of {len(prompt)} turns of the prompt"
        return note + (f" ({roles})" if roles else "") + (f", and perhaps some of {unknown} more" if unknown else "")

    def _together(
        self, text: str, conversation: Sequence[Turn], indices: Sequence[int]
    ) -> Sequence[tuple[int, int] | None] | None:
        """The range of every answer; None if the template treats some of them in a way of its own.

        This takes one rendering, however long the conversation: every answer is replaced at once. The template's text
        around the sentinels, with the answers put back, has to be the whole text to the last character.
        """
        pieces = self._pieces(text, conversation, indices) if indices else [text]
        if pieces is None or len(pieces) != len(indices) + 1:
            return None
        contents = [conversation[index]["content"] for index in indices]
        trimmed = any(content != content.strip() for content in contents)
        for trim in _TRIMS if trimmed else _TRIMS[:1]:
            answers = [trim(content) for content in contents]
            if text == "".join(chain.from_iterable(zip(pieces, answers, strict=False))) + pieces[-1]:
                ranges, at = [], 0
                for piece, answer in zip(pieces, answers, strict=False):
                    ranges.append((at + len(piece), at + len(piece) + len(answer)))
                    at = ranges[-1][1]
                return ranges
        return None

    def _apart(
        self, text: str, conversation: Sequence[Turn], indices: Sequence[int]
    ) -> Sequence[tuple[int, int] | None]:
        """The range of each answer, or None, found by replacing it alone.

        That is a rendering for each answer, so the time grows with the square of the turns, and they are bounded.
        """
        if len(conversation) > MOST_TURNS:
            raise NotRendered(f"the chat template alters answers, and there are more than {MOST_TURNS} turns")
        spans: list[tuple[int, int] | None] = []
        floor = 0
        for index in indices:
            span = self._alone(text, conversation, index)
            if span is not None and span[0] < floor:
                span = None
            spans.append(span)
            floor = span[1] if span else floor
        return spans

    def _alone(self, text: str, conversation: Sequence[Turn], index: int) -> tuple[int, int] | None:
        pieces = self._pieces(text, conversation, [index])
        if pieces is None or len(pieces) != 2:
            return None
        before, after = pieces
        start, end = len(before), len(text) - len(after)
        opens, closes = text.startswith(before), text.endswith(after)
        answer = conversation[index]["content"].strip()
        if opens and closes and start <= end and text[start:end].strip() == answer:
            return start, end
        # The template looked into the answer, as those do that know thoughts, and treats a sentinel in another way. It
        # may still put the answer whole, but for white space, before what follows it or behind what comes before it.
        if answer and closes:
            begins = _back(text, end, answer)
            last = index == len(conversation) - 1
            if begins is not None and (self._header(text, begins, last) < begins or not self._headers(last)):
                return begins, end
        if answer and opens:
            ends = _forth(text, start, answer)
            if ends is not None:
                return start, ends
        return None

    def _pieces(self, text: str, conversation: Sequence[Turn], indices: Iterable[int]) -> list[str] | None:
        """The text of the conversation with a sentinel for these turns' contents, split at the sentinels.

        None if the template refuses it.
        """
        sentinel = next((each for each in map(chr, _SENTINELS) if each not in text), None)
        if sentinel is None:
            raise NotRendered("the conversation has every character that could mark an answer")
        marked = list(conversation)
        for index in indices:
            marked[index] = {**conversation[index], "content": sentinel}
        try:
            return self._apply(marked).split(sentinel)
        except NotRendered:
            return None

    def _apply(self, conversation: Sequence[Turn], add_generation_prompt: bool = False) -> str:
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                list(conversation),
                chat_template=self.named,
                **{**_OPTIONS, "add_generation_prompt": add_generation_prompt},
            )
        except Exception as error:  # a template is a program of somebody else's and may raise anything
            raise NotRendered(f"the chat template refused the conversation: {error}"[:300]) from error
        return rendered

    def _headers(self, last: bool) -> Sequence[str]:
        return self._markup.headers[0 if last else 1]

    def _header(self, text: str, start: int, last: bool) -> int:
        """Where the header of the response that begins at ``start`` begins: ``start`` if it has none."""
        return next((start - len(each) for each in self._headers(last) if text.endswith(each, 0, start)), start)

    def _end(self, text: str, content_end: int, last: bool) -> int:
        """Where the turn ends of which the answer ends at ``content_end``; white space after that is no part of it."""
        closing = self._markup.closing
        if last:
            return max(content_end, len(text.removesuffix(self._markup.afterwards).rstrip()))
        if closing is not None and text.startswith(closing, content_end):
            return content_end + len(closing)
        # after an answer that others follow, the template ends the turn in another way
        special = re.compile(rf"\s*{self._special}").match(text, content_end)
        return special.end() if special else content_end

    @cached_property
    def _markup(self) -> _Markup:
        """What the template makes of a question, then of an answer to it, then of another round."""
        question = {"role": "user", "content": "."}
        answer = {"role": RESPONSE_ROLE, "content": "."}
        try:
            alone = self._apply([question])
            opened = self._apply([question], add_generation_prompt=True)
        except NotRendered:
            return _Markup(((), ()), None, "")
        prompt = self._beyond(alone, opened)
        once = self._pieces(alone, [question, answer], [1]) or []
        twice = self._pieces(alone, [question, answer] * 2, [1, 3]) or []
        around = self._pieces(alone, [question, answer], [0, 1]) or []
        closing = once[1] if len(once) == 2 else None
        afterwards = ""
        if closing is not None and closing.strip() and len(around) == 3 and around[1] == around[2]:
            # whoever speaks, the same comes after it: the end of the turn, and the header of an answer that is to come
            special = re.match(rf"\s*{self._special}", closing)
            afterwards = closing[special.end() :] if special and closing[special.end() :].strip() else ""
            closing = closing.removesuffix(afterwards) if afterwards else closing
            prompt = prompt or afterwards
        single, first = (self._beyond(alone, pieces[0]) if pieces else "" for pieces in (once, twice))
        headers = (single, prompt, first), (first, prompt, single)
        closing = None if closing is None else closing.rstrip()
        return _Markup((_distinct(headers[0]), _distinct(headers[1])), closing, afterwards)

    def _beyond(self, other: str, text: str) -> str:
        """What is left of a text after all that it begins with as another does; special tokens are not split."""
        units, others = (re.findall(rf"{self._special}|(?s:.)", each) for each in (text, other))
        common = next((at for at, pair in enumerate(zip(units, others, strict=False)) if pair[0] != pair[1]), None)
        return "".join(units[min(len(units), len(others)) if common is None else common :])

    @cached_property
    def _special(self) -> str:
        """A pattern: one of the tokenizer's special tokens, the longest that fits."""
        special = {str(each) for each in self._tokenizer.added_tokens_decoder.values() if each.special}
        return f"(?:{'|'.join(map(re.escape, sorted(special, key=len, reverse=True))) or '(?!)'})"


def _distinct(headers: Sequence[str]) -> Sequence[str]:
    return [each for each in dict.fromkeys(headers) if each]


def _back(text: str, end: int, answer: str) -> int | None:
    """Where the answer begins that ends at ``end``, white space aside; None if it does not end there."""
    letters = "".join(answer.split())
    starts = [letter.start() for letter in re.finditer(r"\S", text[:end])][-len(letters) :]
    return starts[0] if starts and "".join(text[starts[0] : end].split()) == letters else None


def _forth(text: str, start: int, answer: str) -> int | None:
    """Where the answer ends that begins at ``start``, white space aside; None if it does not begin there."""
    letters = "".join(answer.split())
    for number, letter in enumerate(re.finditer(r"\S", text[start:]), 1):
        if number == len(letters):
            end = start + letter.end()
            return end if "".join(text[start:end].split()) == letters else None
    return None
