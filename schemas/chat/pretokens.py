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
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

CACHE_UNITS = 1 << 21
"""How much a cache holds before it is emptied: a unit is a token, and each pretoken has eight more. Some 100 MB."""
_OVERHEAD = 8
LONGEST = 100
"""Characters: a text with a longer pretoken is read whole. It will hardly come again, and would fill the cache."""
ALONE = 256
"""Pretokens of which is remembered how their tokens stand in them, as a response begins or ends inside."""

Splitter = Callable[[str], list[str]]

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
_TO_BLOCKS = {"type": "Replace", "pattern": {"String": " "}, "content": _BLOCK}
_ON_SPACES = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


class Tokens:
    """Tokens of one text: their ids, and how many of them end or begin before a character of it."""

    def __init__(self, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> None:
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
    """Texts in pretokens, one after the other: where each pretoken ends, in characters; how many tokens there are
    before it, and in all; the ids of those."""

    pretokens: Sequence[str]
    edges: Sequence[int]
    counts: Sequence[int]
    ids: Sequence[int]


class _TokensOfPretokens(Tokens):
    """Tokens of one of the texts that were cut: of the pretokens from ``first`` to ``last``, which they fill."""

    def __init__(self, cut: _Cut, first: int, last: int, alone: Callable[[str], Tokens]) -> None:
        """``alone``: the tokens of a pretoken."""
        self._cut, self._first, self._last, self._alone = cut, first, last, alone
        self._start = cut.edges[first - 1] if first else 0
        self.ids = cut.ids[cut.counts[first] : cut.counts[last]]

    def ended(self, at: int) -> int:
        return self._before(bisect_right(self._cut.edges, self._start + at, self._first, self._last), at, Tokens.ended)

    def begun(self, at: int) -> int:
        index = bisect_left(self._cut.edges, self._start + at, self._first, self._last)
        whole = index < self._last and self._cut.edges[index] == self._start + at
        return self._before(index + whole, at, Tokens.begun)

    def _before(self, index: int, at: int, count: Callable[[Tokens, int], int]) -> int:
        """Tokens of the pretokens before this one, and those in it."""
        tokens = self._cut.counts[index] - self._cut.counts[self._first]
        inside = at - (self._cut.edges[index - 1] - self._start if index > self._first else 0)
        if index == self._last or inside <= 0:
            return tokens
        return tokens + count(self._alone(self._cut.pretokens[index]), inside)


class _Numbers(dict[str, int]):
    """Pretokens by number, from 1; 0 is every one that is too long to keep. ``new``: the last ones, not yet read."""

    def __init__(self) -> None:
        self.new: list[str] = []

    def __missing__(self, pretoken: str) -> int:
        if len(pretoken) > LONGEST:
            return 0
        self[pretoken] = number = len(self) + 1
        self.new.append(pretoken)
        return number


class PretokenCache:
    """Tokenises texts as ``encode_batch`` of ``tokenizers`` does, without the tokens that belong around a text.

    ``tokenizer``: a ``tokenizers.Tokenizer``, which must not be changed afterwards.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._split = tokenizer, splitter(tokenizer)
        self._alone = lru_cache(ALONE)(lambda pretoken: self._whole([pretoken])[0])
        self._lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self._numbers = _Numbers()
        self._lengths, self._counts, self._fills = array("q", [0]), array("q", [0]), array("b", [False])
        """Of each pretoken by number: its characters, its tokens, and whether these fill it."""
        self._ids = array("q")
        """The tokens of all of them, in the order of their numbers."""

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text."""
        if self._split is None:
            return self._whole(texts)
        split = list(map(self._split, texts))
        pretokens = list(chain.from_iterable(split))
        with self._lock:
            if len(self._ids) + _OVERHEAD * len(self._numbers) > CACHE_UNITS:
                self._forget()
            numbers = np.fromiter(map(self._numbers.__getitem__, pretokens), np.int64, len(pretokens))
            self._learn()
            lengths, counts, fill = (np.array(each)[numbers] for each in (self._lengths, self._counts, self._fills))
            ends = np.array(self._counts).cumsum()[numbers]
            ids = np.array(self._ids)
        tokens = counts.cumsum()
        ids = ids[np.repeat(ends - tokens, counts) + np.arange(tokens[-1] if len(tokens) else 0)]
        cut = _Cut(pretokens, lengths.cumsum().tolist(), [0, *tokens.tolist()], ids.tolist())
        rows = list(accumulate(map(len, split), initial=0))
        odd = np.unique(np.searchsorted(rows, np.flatnonzero(fill == 0), "right") - 1).tolist()
        whole = dict(zip(odd, self._whole([texts[row] for row in odd]), strict=True))
        return [
            whole[row] if row in whole else _TokensOfPretokens(cut, first, last, self._alone)
            for row, (first, last) in enumerate(pairwise(rows))
        ]

    def _learn(self) -> None:
        """Reads what the cache does not have."""
        new, self._numbers.new = self._numbers.new, []
        try:
            encoded = self._tokenizer.encode_batch(new, add_special_tokens=False)
        except BaseException:  # such as half of a surrogate pair: their numbers stand for nothing
            self._forget()
            raise
        for pretoken, each in zip(new, encoded, strict=True):
            ids = each.ids
            self._lengths.append(len(pretoken))
            self._counts.append(len(ids))
            self._fills.append(_fill(each.offsets, len(pretoken)))
            self._ids.extend(ids)

    def _whole(self, texts: Sequence[str]) -> list[Tokens]:
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False) if texts else []
        return [Tokens(each.ids, each.offsets) for each in encoded]


def _fill(offsets: Sequence[tuple[int, int]], length: int) -> bool:
    """Whether tokens hold a text of so many characters from its first to its last."""
    return bool(offsets) and offsets[0][1] > 0 and offsets[-1][0] < length == offsets[-1][1]


def splitter(tokenizer: Any) -> Splitter | None:
    """A function from a text to pieces of it that the tokenizer reads each by itself; None where none is known."""
    added = tokenizer.get_added_tokens_decoder().values()
    apart = not any(each.normalized or each.lstrip or each.rstrip or each.single_word for each in added)
    split = _splitter(tokenizer) if apart and not tokenizer.encode_special_tokens else None
    if split is None:
        return None
    # the longest of the tokens that begin at the first character where one does, as the library has it
    pattern = re.compile(f"({_any_of([each.content for each in added])})")

    def pieces(text: str) -> list[str]:
        result: list[str] = []
        for index, piece in enumerate(pattern.split(text)):
            if index % 2:
                result.append(piece)
            elif piece:
                result += split(piece)
        return result

    return pieces


def _splitter(tokenizer: Any) -> Splitter | None:
    """The same for texts without added tokens."""
    before, normalizer, model = _state(tokenizer.pre_tokenizer), _state(tokenizer.normalizer), tokenizer.model
    if getattr(model, "dropout", None) or getattr(model, "alpha", None):  # draws
        return None
    pattern = _pattern(before)
    if pattern and normalizer in (None, {"type": "NFC"}):
        return _by_pattern(pattern)
    if type(model).__name__ == "BPE" and normalizer == _TO_BLOCKS and before in (None, _ON_SPACES):
        whole = model.ignore_merges or model.continuing_subword_prefix or model.end_of_word_suffix
        vocabulary = tokenizer.get_vocab(with_added_tokens=False)
        if not whole and _BLOCK in vocabulary:
            return _before_spaces(set(re.findall(f"(?s)(.){_BLOCK}", "\0".join(vocabulary))) | {_BLOCK, " "})
    return None


def _pattern(before: Any) -> str | None:
    """What matches the pretokens of a text in ASCII, if it is known for this pretokenizer."""
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


def _by_pattern(pattern: str) -> Splitter:
    for unicode, ascii_only in _CLASSES.items():
        pattern = pattern.replace(unicode, ascii_only)
    find, other = re.compile(pattern, re.ASCII).findall, _before_spaces({r"\s"})

    def split(text: str) -> list[str]:
        if text.isascii():
            return find(text)
        return [part for piece in other(text) for part in (find(piece) if piece.isascii() else [piece])]

    return split


def _before_spaces(after: Iterable[str]) -> Splitter:
    """Cuts a text before each space but those behind one of these characters, or classes of them."""
    behind = "".join(each if len(each) > 1 else re.escape(each) for each in sorted(after))
    return re.compile(rf" *[^ ]+(?:(?<=[{behind}]) +[^ ]*)*| +").findall


def _any_of(words: Iterable[str]) -> str:
    """A pattern of the longest of these words, as quick for thousands as for one."""
    heads: dict[str, list[str]] = {}
    for word in sorted(words):
        heads.setdefault(word[:1], []).append(word[1:])
    ends = heads.pop("", None) is not None
    inner = "|".join(re.escape(head) + (_any_of(tails) if tails != [""] else "") for head, tails in heads.items())
    return (f"(?:{inner})" + "?" * ends) if inner else "" if ends else "(?!)"


def _state(part: Any) -> Any:
    """What a part of a tokenizer is made from, as it stands in tokenizer.json."""
    return None if part is None else json.loads(part.__getstate__())
