r"""Tokens of texts from a cache: models of ``tokenizers`` read each pretoken by itself, and most have been read before.

``<|im_start|>user\nGive 3 tips.`` in SmolLM2's tokenizer:

| step | pieces |
|---|---|
| added tokens come out first | ``<|im_start|>``, ``user\nGive 3 tips.`` |
| then pretokens, by a pattern | ``<|im_start|>``, ``user``, ``\n``, ``Give``, a space, ``3``, `` tips``, ``.`` |
| their ids, from the cache | 1, 4093, 198, 26533, 216, 35, 5608, 30 |

What the cache does not have is tokenised by the library, so that every id is its own. What needs a proof is only that
a text may be cut there: that what stands on one side of a cut does nothing to the other. It does not between pretokens.
The patterns are the library's, with the classes of Unicode written out for ASCII. Other text is cut before a space that
follows no white space, where none of these patterns goes on. Where nothing splits a text before its merges (Gemma), it
is cut before a space if no token of the vocabulary has a space behind the character before it: no merge goes across.
Tokenizers of other kinds read whole texts.
"""

import json
import math
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain, islice
from os.path import commonprefix
from threading import Lock
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

CACHE_UNITS = 1 << 21
"""How much a cache holds before it is emptied: a unit is a token, and each pretoken has eight more. Some 100 MB."""
_OVERHEAD = 8
LONGEST = 100
"""Characters: a text with a longer pretoken is read whole. It will hardly come again, and would fill the cache."""
EFFORT = 25
"""Characters: the library reads so many of a text in the time in which it reads a pretoken by itself, or in more."""
ALONE = 256
"""Pretokens of which is remembered how their tokens stand in them, as a response begins or ends inside."""

Ints = NDArray[np.int64]

_CONTRACTION, _LETTERS, _SPACES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_MARKS, _LINES = r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+|" + _SPACES
_MARKS_AND_SLASH = _MARKS.replace(r"\n]*", r"\n/]*")
_PATTERNS = {
    "Llama 3": "|".join((_CONTRACTION, _LETTERS, r"\p{N}{1,3}", _MARKS, _LINES)),
    "Qwen 2": "|".join((_CONTRACTION, _LETTERS, r"\p{N}", _MARKS, _LINES)),
    "Mistral": "|".join((f"{_UPPER}*{_LOWER}+", f"{_UPPER}+{_LOWER}*", r"\p{N}", _MARKS_AND_SLASH, _LINES)),
    "gpt-oss": "|".join(
        (
            *(f"{_UPPER}*{_LOWER}+{_CONTRACTION}?", f"{_UPPER}+{_LOWER}*{_CONTRACTION}?"),
            *(r"\p{N}{1,3}", _MARKS_AND_SLASH, _LINES),
        )
    ),
}
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|" + _SPACES
"""That of ``ByteLevel``."""
_GPT2_AFTER_DIGITS = _GPT2.replace(r" ?\p{N}+", r"\p{N}").replace(r"(?!\S)", r"(?![^\s\p{N}])")
"""The same of what is left when every digit is a piece by itself: white space before a digit ends there."""
_CLASSES = {
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]": "[A-Z]",
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]": "[a-z]",
    r"\p{L}\p{N}]": "A-Za-z0-9]",
    r"\s\p{N}]": r"\s0-9]",
    r"\p{L}": "[A-Za-z]",
    r"\p{N}": "[0-9]",
}
_BLOCK = "\N{LOWER ONE EIGHTH BLOCK}"
"""What a space is to tokenizers in the manner of SentencePiece."""
_BYTE_OF_SPACE = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"
"""What it is to models of bytes."""
_TO_BLOCKS = {"type": "Replace", "pattern": {"String": " "}, "content": _BLOCK}
_ON_SPACES = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


class Tokens:
    """Tokens of one text: their ids, and how many of them end or begin before a character of it."""

    def __init__(self, ids: list[int], offsets: Sequence[tuple[int, int]]) -> None:
        """``offsets``: of each token, in characters."""
        self.ids = ids
        self._ends = list(accumulate((end for _, end in offsets), max))
        # Some tokenizers report a token without the space before it: it then reaches back to the token before.
        self._starts = [min(start, before) for (start, _), before in zip(offsets, [0, *self._ends], strict=False)]

    def ended(self, at: int) -> int:
        """How many tokens hold nothing but characters before this one."""
        return bisect_right(self._ends, at)

    def begun(self, at: int) -> int:
        """How many tokens hold a character before this one."""
        return bisect_left(self._starts, at)


class _Cut(NamedTuple):
    """Texts in pretokens: how many each text has; of each of these, its characters and its tokens; the ids of those."""

    pretokens: Ints
    lengths: Ints
    counts: Ints
    ids: Ints


class TokenisedTexts:
    """Tokens of texts: their ids, and how many of them end or begin before a character of their text.

    Of a text that was cut, it is known how long its pretokens are and how many tokens each has, which fill it; of one
    that was read whole, where every token stands.
    """

    def __init__(self, texts: Sequence[str], cut: _Cut, whole: Mapping[int, Tokens], alone: Callable[[str], Tokens]):
        """``whole``: by the index of their text. ``alone``: the tokens of a pretoken."""
        self._texts, self._ids, self._whole, self._alone = texts, cut.ids, whole, alone
        self._firsts, self._edges, self._counts = (
            np.concatenate(([0], each.cumsum())) for each in (cut.pretokens, cut.lengths, cut.counts)
        )
        self._is_whole = np.zeros(len(texts), np.bool_)
        self._is_whole[[*whole]] = True

    def ids(self, text: int) -> list[int]:
        """The tokens of one text."""
        if text in self._whole:
            return self._whole[text].ids
        first, end = self._counts[self._firsts[text : text + 2]]
        ids: list[int] = self._ids[first:end].tolist()
        return ids

    @property
    def counts(self) -> Ints:
        """How many tokens each text has."""
        counts = np.diff(self._counts[self._firsts])
        counts[[*self._whole]] = [len(each.ids) for each in self._whole.values()]
        return counts

    def ended(self, texts: Ints, at: Ints) -> Ints:
        """How many tokens of each of these texts hold nothing but characters before this one of it."""
        return self._before(texts, at, Tokens.ended)

    def begun(self, texts: Ints, at: Ints) -> Ints:
        """How many tokens of each of these texts hold a character before this one of it."""
        return self._before(texts, at, Tokens.begun)

    def _before(self, texts: Ints, at: Ints, count: Callable[[Tokens, int], int]) -> Ints:
        """Tokens of the pretokens that end there or earlier, and those in the one that has begun."""
        first, last = self._firsts[texts], self._firsts[texts + 1]
        position = self._edges[first] + at
        index = np.clip(np.searchsorted(self._edges, position, "right") - 1, first, last)
        tokens = self._counts[index] - self._counts[first]
        is_whole = self._is_whole[texts]
        for row in np.flatnonzero(is_whole).tolist():
            tokens[row] = count(self._whole[int(texts[row])], int(at[row]))
        for row in np.flatnonzero((self._edges[index] < position) & (index < last) & ~is_whole).tolist():
            start, end = (self._edges[index[row] : index[row] + 2] - self._edges[first[row]]).tolist()
            tokens[row] += count(self._alone(self._texts[texts[row]][start:end]), int(at[row]) - start)
        return tokens


class PretokenNumbers(Protocol):
    """Pretokens by number, from 0.

    A text of which too much is new is read whole: its pretokens may be as rare as it is. When they come again, they are
    new no more.
    """

    def of(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """The numbers of the pretokens of texts, one text after the other, and how many each text has; none if it is
        to be read whole."""

    def take_new(self) -> list[str]:
        """Those that were numbered since this was last asked, in the order of their numbers."""

    @property
    def size(self) -> int:
        """How many pretokens it holds, with those that were met."""


class NumbersByDict(dict[str, int]):
    """``PretokenNumbers`` of any pieces that texts are cut into."""

    def __init__(self, cut: Callable[[str], list[str]]) -> None:
        self._cut = cut
        self._new: list[str] = []
        self._met: set[str] = set()
        self._effort = 0.0

    def __missing__(self, pretoken: str) -> int:
        if len(pretoken) > LONGEST:
            self._effort = math.inf
        elif pretoken not in self._met:
            self._effort += EFFORT
        self[pretoken] = number = len(self)
        self._new.append(pretoken)
        return number

    def of(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        numbers: list[int] = []
        counts = []
        for text in texts:
            # each is looked up at once: its pretokens are still at hand, and their memory is used again
            some = self._of(text)
            numbers += some
            counts.append(len(some))
        return np.array(numbers, np.int64), np.array(counts, np.int64)

    def _of(self, text: str) -> list[int]:
        before, self._effort = len(self._new), 0.0
        numbers = [*map(self.__getitem__, self._cut(text))]
        if self._effort <= len(text):
            return numbers
        left = self._new[before:]
        del self._new[before:]
        for each in left:
            del self[each]
        self._met.update(each for each in left if len(each) <= LONGEST)
        return []

    def take_new(self) -> list[str]:
        new, self._new = self._new, []
        self._met.difference_update(new)
        return new

    @property
    def size(self) -> int:
        return len(self) + len(self._met)


class PretokenCache:
    """Tokenises texts as ``encode_batch`` of ``tokenizers`` does, without the tokens that belong around a text.

    ``tokenizer``: a ``tokenizers.Tokenizer``, which must not be changed afterwards. ``numbers``: what cuts texts as the
    splitter does and knows the pieces again.
    """

    def __init__(self, tokenizer: Any, numbers: Callable[["Splitter"], PretokenNumbers] = NumbersByDict) -> None:
        self._tokenizer, self._splitter, self._make_numbers = tokenizer, splitter(tokenizer), numbers
        self._read_by_model = _model_reader(tokenizer, self._splitter) if self._splitter else lambda _: {}
        self._alone = lru_cache(ALONE)(lambda pretoken: self._whole([pretoken])[0])
        self._lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self._numbers = self._make_numbers(self._splitter) if self._splitter else NumbersByDict(lambda _: [])
        self._lengths, self._fill = array("q"), array("b")
        """Of each pretoken by number: its characters, and whether its tokens fill it."""
        self._ids, self._ends = array("q"), array("q", [0])
        """The tokens of all of them, in the order of their numbers, and where those of each end."""

    def encode(self, texts: Sequence[str]) -> TokenisedTexts:
        """The tokens of texts."""
        cut, filled = self._cut(texts)
        uncut = np.flatnonzero(~filled).tolist()
        whole = dict(zip(uncut, self._whole([texts[index] for index in uncut]), strict=True))
        return TokenisedTexts(texts, cut, whole, self._alone)

    def _cut(self, texts: Sequence[str]) -> tuple[_Cut, NDArray[np.bool_]]:
        """Texts in pretokens, and of each text whether it is filled by the tokens of its pretokens."""
        with self._lock:
            if len(self._ids) + _OVERHEAD * self._numbers.size > CACHE_UNITS:
                self._forget()
            try:
                indices, pretokens = self._numbers.of(texts)
                self._read(self._numbers.take_new())
            except BaseException:  # half of a surrogate pair, or an interruption: some numbers stand for nothing
                self._forget()
                raise
            # views, which are gone before anything is added
            lengths, fill = np.frombuffer(self._lengths, "q")[indices], np.frombuffer(self._fill, "?")[indices]
            ends = np.frombuffer(self._ends, "q")
            starts, counts = ends[indices], ends[indices + 1] - ends[indices]
            within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
            ids = np.frombuffer(self._ids, "q")[np.repeat(starts, counts) + within]
            del ends
        filled = pretokens > 0
        filled[np.searchsorted(pretokens.cumsum(), np.flatnonzero(~fill), "right")] = False
        return _Cut(pretokens, lengths, counts, ids), filled

    def _read(self, pretokens: Sequence[str]) -> None:
        """Keeps the tokens of new pretokens."""
        by_model = self._read_by_model(pretokens)
        others = [each for each in pretokens if each not in by_model]
        encoded = dict(zip(others, self._tokenizer.encode_batch(others, add_special_tokens=False), strict=True))
        ids = [by_model[each] if each in by_model else encoded[each].ids for each in pretokens]
        self._lengths.extend(map(len, pretokens))
        self._fill.extend(each in by_model or _fill(encoded[each].offsets, len(each)) for each in pretokens)
        self._ends.extend(islice(accumulate(map(len, ids), initial=len(self._ids)), 1, None))
        self._ids.extend(chain.from_iterable(ids))

    def _whole(self, texts: Sequence[str]) -> list[Tokens]:
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False) if texts else []
        return [Tokens(each.ids, each.offsets) for each in encoded]


def _model_reader(tokenizer: Any, splitter: "Splitter") -> Callable[[Sequence[str]], dict[str, list[int]]]:
    """Ids of those pretokens in printable ASCII that their tokens fill, from the model alone.

    This takes a third of the time, as no offsets are counted on the way. To models of bytes such text is itself, but
    for its spaces.
    """
    if splitter.pretokens is None or '"trim_offsets": true' in json.dumps(_state(tokenizer.post_processor)):
        return lambda _: {}
    read, added = tokenizer.model.tokenize, splitter.added.fullmatch

    def ids(pretokens: Sequence[str]) -> dict[str, list[int]]:
        result = {}
        for text in pretokens:
            if text.isascii() and text.isprintable() and not added(text):
                tokens = read(written := text.replace(" ", _BYTE_OF_SPACE))
                if "".join([each.value for each in tokens]) == written:
                    result[text] = [each.id for each in tokens]
        return result

    return ids


def _fill(offsets: Sequence[tuple[int, int]], length: int) -> bool:
    """Whether tokens hold a text of so many characters from its first to its last."""
    return bool(offsets) and offsets[0][1] > 0 and offsets[-1][0] < length == offsets[-1][1]


@dataclass(frozen=True)
class Splitter:
    """A function from a text to pieces of it that the tokenizer reads each by itself.

    In ASCII they are what two expressions find, one after the other: ``added`` the tokens that come out first, and
    ``pretokens`` what is in the rest, all of which it matches. None: that is cut by another rule.
    """

    added: re.Pattern[str]
    pretokens: re.Pattern[str] | None
    cut: Callable[[str], list[str]]

    def __call__(self, text: str) -> list[str]:
        result: list[str] = []
        for index, piece in enumerate(self.added.split(text)):
            if index % 2:
                result.append(piece)
            elif piece:
                result += self.cut(piece)
        return result


def splitter(tokenizer: Any) -> Splitter | None:
    """None where it is not known of any cut that it does nothing to the tokens."""
    added, model = tokenizer.get_added_tokens_decoder().values(), tokenizer.model
    draws = getattr(model, "dropout", None) or getattr(model, "alpha", None)
    around = any(each.normalized or each.lstrip or each.rstrip or each.single_word for each in added)
    if draws or around or tokenizer.encode_special_tokens:
        return None
    pretokens = _pretokens(tokenizer)
    cut = _by_pretokens(pretokens) if pretokens else _between_words(tokenizer)
    # the longest of the tokens that begin at the first character where one does, as the library has it
    longest = re.compile(f"({_any_of([each.content for each in added])})")
    return Splitter(longest, pretokens, cut) if cut else None


def _pretokens(tokenizer: Any) -> re.Pattern[str] | None:
    """What matches the pretokens of a text in ASCII, if that is known."""
    pattern = _pattern(_state(tokenizer.pre_tokenizer))
    if pattern is None or _state(tokenizer.normalizer) not in (None, {"type": "NFC"}):
        return None
    for unicode, ascii_only in _CLASSES.items():
        pattern = pattern.replace(unicode, ascii_only)
    return re.compile(pattern, re.ASCII)


def _between_words(tokenizer: Any) -> Callable[[str], list[str]] | None:
    """Cuts a text without added tokens where nothing else does before the merges, if none of these goes across."""
    before, normalizer, model = _state(tokenizer.pre_tokenizer), _state(tokenizer.normalizer), tokenizer.model
    if type(model).__name__ == "BPE" and normalizer == _TO_BLOCKS and before in (None, _ON_SPACES):
        whole = model.ignore_merges or model.continuing_subword_prefix or model.end_of_word_suffix
        vocabulary = tokenizer.get_vocab(with_added_tokens=False)
        if not whole and _BLOCK in vocabulary:
            return _before_spaces(set(re.findall(f"(?s)(.){_BLOCK}", "\0".join(vocabulary))) | {_BLOCK, " "})
    return None


def _pattern(before: Any) -> str | None:
    """That of a pretokenizer, if it is known."""
    match before:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return _GPT2
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            ],
        }:
            return _GPT2_AFTER_DIGITS
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if pattern in _PATTERNS.values():
            return str(pattern)
    return None


def _by_pretokens(pretokens: re.Pattern[str]) -> Callable[[str], list[str]]:
    find, other = pretokens.findall, _before_spaces({r"\s"})

    def split(text: str) -> list[str]:
        if text.isascii():
            return find(text)
        return [part for piece in other(text) for part in (find(piece) if piece.isascii() else [piece])]

    return split


def _before_spaces(after: Iterable[str]) -> Callable[[str], list[str]]:
    """Cuts a text before each space but those behind one of these characters, or classes of them."""
    behind = "".join(each if len(each) > 1 else re.escape(each) for each in sorted(after))
    return re.compile(rf" *[^ ]+(?:(?<=[{behind}]) +[^ ]*)*| +").findall


def _any_of(words: Iterable[str]) -> str:
    """A pattern of the longest of these words, as quick for thousands as for one."""
    alike: dict[str, list[str]] = {}
    for word in sorted(words):
        alike.setdefault(word[:1], []).append(word)
    ends = alike.pop("", None) is not None
    alternatives = []
    for some in alike.values():
        head = commonprefix(some)  # noqa: RUF071  of characters; a group stands in another only where words part
        tails = [word.removeprefix(head) for word in some]
        alternatives.append(re.escape(head) + (_any_of(tails) if tails != [""] else ""))
    inner = "|".join(alternatives)
    return (f"(?:{inner})" + "?" * ends) if inner else "" if ends else "(?!)"


def _state(part: Any) -> Any:
    """What a part of a tokenizer is made from, as it stands in tokenizer.json."""
    return None if part is None else json.loads(part.__getstate__())
