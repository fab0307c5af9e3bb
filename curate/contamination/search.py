"""Texts of a benchmark in the turns of a row: the same, in part, or nearly the same.

A row holds "What is the sum of 12 and 30? Think aloud." in a turn, and the benchmark asks "What is the sum of 12 and
30?". That has eight words, and stands in the turn whole: the row is contaminated by a run of words, with an overlap of
1, since all runs of the text (it has one) are in the row. It is not "exact", as the turn has two words more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from curricle.curate.contamination.benchmark import Benchmark
from curricle.curate.selection.near_duplicates import WORDS, hashed_words, runs

MatchKind = Literal["exact", "run of words", "near-duplicate"]
KINDS: tuple[MatchKind, ...] = get_args(MatchKind)
"""The surest first."""


@dataclass(frozen=True)
class Match:
    """``text``: the index of the text in ``Benchmark.texts`` that is there the most. ``overlap``: the share of its runs
    that are in the row, 0 to 1; of a near-duplicate, it may be 0.
    """

    kind: MatchKind
    text: int
    overlap: float


def search(benchmark: Benchmark, turns: Sequence[str], threshold: float) -> Match | None:
    """The text of the benchmark that a row holds, by the surest kind; None if it holds none.

    ``threshold``: the Jaccard similarity, of the sets of three-word runs of a turn and of a text, from which they are
    nearly the same.
    """
    hashed = [words for turn in turns if len(words := hashed_words([turn]))]
    for words in hashed:
        if (text := benchmark.by_words.get(words.tobytes())) is not None:
            return Match("exact", text, 1.0)
    best = Match("run of words", -1, 0.0)
    for length, postings in benchmark.runs.items():
        there = [runs(words, length) for words in hashed if len(words) >= length]
        texts, counts = postings.shared(np.unique(np.concatenate([np.empty(0, np.uint64), *there])))
        if len(texts):
            shares = counts / benchmark.run_counts[texts]
            highest = int(shares.argmax())
            if shares[highest] > best.overlap:
                best = Match("run of words", int(texts[highest]), float(shares[highest]))
    if best.overlap:
        return best
    for words in hashed:
        grams = np.unique(runs(words, WORDS))
        texts, counts = benchmark.grams.shared(grams)
        if len(texts):
            similar = counts / (len(grams) + benchmark.gram_counts[texts] - counts)
            highest = int(similar.argmax())
            if similar[highest] >= threshold:
                return Match("near-duplicate", int(texts[highest]), 0.0)
    return None
