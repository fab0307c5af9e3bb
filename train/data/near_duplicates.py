"""Rows that are nearly the same as rows that are held out: counted, by runs of three words in common.

An index of the held-out texts alone is enough: they are few. The others are read once, some at a time. There is no
hashing and no estimate, so that no pair is missed. What a word is, is simpler than for ``curricle select``, which asks
a library that the trainer does without: a run of letters and digits, and each character of scripts that are written
without spaces.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from curricle.train.data.table import Example, Rows, Table

WORDS = 3
AT_ONCE = 4096
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def near_duplicates(table: Table, held_out: Iterable[Table], threshold: float) -> Rows:
    """The rows of the table, rising, whose conversation has this share of its runs of ``WORDS`` words in common with
    that of a held-out row: their Jaccard similarity. Texts without words are like no other.
    """
    sizes: list[int] = []
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for each in held_out:
        for runs in _runs_of(each):
            for run in runs:
                index[run].append(len(sizes))
            sizes.append(len(runs))
    near = []
    for row, runs in enumerate(_runs_of(table)):
        common = Counter(other for run in runs for other in index.get(run, ()))
        if any(count >= threshold * (len(runs) + sizes[other] - count) for other, count in common.items()):
            near.append(row)
    return np.array(near, np.int64)


def _runs_of(table: Table) -> Iterator[set[tuple[str, ...]]]:
    for start in range(0, len(table), AT_ONCE):
        for example in table.examples(np.arange(start, min(len(table), start + AT_ONCE))):
            yield word_runs(example)


def word_runs(example: Example) -> set[tuple[str, ...]]:
    """The runs of a conversation's words, in lower case, over its turns; a text with fewer words is one run."""
    words = [word for turn in example.messages for word in _WORD.findall(turn["content"].lower())]
    return {tuple(words[start : start + WORDS]) for start in range(max(len(words) - WORDS + 1, min(len(words), 1)))}
