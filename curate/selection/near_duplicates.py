"""Texts that are nearly the same: MinHash (Broder 1997) over runs of words, by datasketch, which is MIT-licensed,
maintained, depends on numpy and scipy alone, and has hashes that are the same on every machine.

MinHash only says which rows to compare. Whether two are alike is counted: the Jaccard similarity of their runs.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from curricle.curate.words import unicode_words
from numpy.typing import NDArray

VIEWS = {"both": ("conversation", "response"), "chains": ("conversation",)}
"""What of two rows has to be alike, each for itself; for other names, what they say."""
WORDS = 3
PERMUTATIONS = 128
WEIGHTS = (0.02, 0.98)
"""A pair that is looked at in vain costs time, one that is missed stays: 98 % of those at the threshold are found."""
MOST_COMPARED = 1000
"""Rows of a bucket, of those that are kept, that a row is compared with: where there are more they share a template."""
AT_ONCE = 4096
POWERS = np.cumprod(np.full(PERMUTATIONS, 0x5851F42D4C957F2D, np.uint64))


def contents(view: str, turns: Sequence[tuple[bool, str]]) -> list[str]:
    """The contents of the turns that are the conversation, its prompt or its response: ``schemas.inputs.by_response``
    has the turns."""
    wanted = {"conversation": (True, False), "response": (True,), "prompt": (False,)}[view]
    return [content for is_response, content in turns if is_response in wanted]


def signatures(texts: Iterable[Sequence[str]], rows: int, seed: int) -> NDArray[np.uint32]:
    """A MinHash of the ``WORDS``-grams of each of ``rows`` texts, of shape (rows, permutations): 512 bytes a row.

    A text comes as its parts, such as the turns of a conversation. Case and what is no word do not count. A text with
    fewer words is one gram; one without any has the largest number in every position.
    """
    from datasketch import MinHash  # brings scipy: only where texts are compared

    signed = np.empty((rows, PERMUTATIONS), np.uint32)
    sketch = MinHash(PERMUTATIONS, seed % 2**32, scheme="affine32")
    for row, parts in enumerate(texts):
        sketch.clear()
        words = [word.lower() for part in parts for word in unicode_words(part)]
        for grams in _batches(words):
            sketch.update_batch(grams)
        signed[row] = sketch.hashvalues
    return signed


def _batches(words: Sequence[str]) -> Iterator[list[bytes]]:
    count = max(len(words) - WORDS + 1, min(len(words), 1))
    for start in range(0, count, AT_ONCE):
        stop = min(count, start + AT_ONCE)
        yield [" ".join(words[index : index + WORDS]).encode() for index in range(start, stop)]


def has_words(signed: NDArray[np.uint32]) -> NDArray[np.bool_]:
    return signed.min(axis=1) < np.iinfo(np.uint32).max


class Buckets(NamedTuple):
    """Which rows may be alike: the ``bucket`` of each entry, and where the entries of each row start."""

    total: int
    bucket: NDArray[np.int32]
    starts: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows that stand in a bucket."""
        return np.flatnonzero(np.diff(self.starts))


def buckets(signed: NDArray[np.uint32], threshold: float) -> Buckets:
    """Rows share one if they agree in a whole band of their signatures (locality-sensitive hashing), or in all of it.

    datasketch says how many bands of which width. Rows without words are in none.
    """
    from datasketch import MinHashLSH

    index, count = MinHashLSH(threshold, PERMUTATIONS, WEIGHTS), 0
    bands = [(start, start + index.r) for start in range(0, index.b * index.r, index.r)]
    worded, rows, numbers = has_words(signed), [], []
    for start, stop in [(0, PERMUTATIONS), *bands]:
        keys = signed[:, start:stop].astype(np.uint64) @ POWERS[: stop - start]
        order = np.argsort(keys, kind="stable")
        order = order[worded[order]]
        run = np.cumsum(np.diff(keys[order], prepend=keys[order[:1]]) != 0)
        several = np.bincount(run)[run] > 1
        if several.any():
            number = np.cumsum(np.diff(run[several], prepend=-1) != 0) - 1 + count
            rows.append(order[several].astype(np.int32))
            numbers.append(number.astype(np.int32))
            count = int(number[-1]) + 1
    row = np.concatenate([np.empty(0, np.int32), *rows])
    by_row = np.argsort(row, kind="stable")
    starts = np.searchsorted(row[by_row], np.arange(len(signed) + 1))
    return Buckets(count, np.concatenate([np.empty(0, np.int32), *numbers])[by_row], starts)


class Grams(NamedTuple):
    """The ``WORDS``-grams of texts as sorted numbers: those of text i are ``values[starts[i]:starts[i + 1]]``."""

    values: NDArray[np.uint64]
    starts: NDArray[np.int64]


def grams(texts: Iterable[Sequence[str]]) -> Grams:
    """The set of grams of each text, which comes as its parts, as 64-bit hashes: 8 bytes a gram.

    As for ``signatures``, but that a text without words is one gram: itself.
    """
    values, starts = array("Q"), array("q", [0])  # which grow without a copy, where lists of arrays would be copied
    for parts in texts:
        values.frombytes(_grams(parts).tobytes())
        starts.append(len(values))
    return Grams(np.frombuffer(values, np.uint64), np.frombuffer(starts, np.int64))


def _grams(parts: Sequence[str]) -> NDArray[np.uint64]:
    words = hashed_words(parts)
    return np.unique(runs(words, WORDS)) if len(words) else np.array([_hash("\n".join(parts).strip())], np.uint64)


def hashed_words(parts: Sequence[str]) -> NDArray[np.uint64]:
    """A number for each word of a text, which comes as its parts; case and what is no word do not count."""
    return np.array([_hash(word.lower()) for part in parts for word in unicode_words(part)], np.uint64)


def runs(words: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """A number for each run of ``length`` words, in order; for all of them, where there are fewer."""
    length = min(length, len(words))
    count = len(words) - length + 1
    shifted = [words[index : index + count] * POWERS[index] for index in range(length)]
    return np.sum(shifted, axis=0, dtype=np.uint64)


@lru_cache(1 << 18)
def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest())


def stand_ins(
    shared: Buckets, compared: Grams, views: int, order: NDArray[np.int64], threshold: float
) -> NDArray[np.int64]:
    """For each row the kept one that it is nearly the same as, -1 for those that are kept.

    Rows are decided on in this ``order``. One is dropped if a row that is kept shares a bucket with it, and the Jaccard
    similarity of the two is at least the threshold in every view; a row that is dropped drops no other. ``compared``
    has the texts of ``shared.rows``, in that order: for each row so many ``views``.
    """
    from curricle.curate.selection.near_duplicates_kernel import (
        decide,  # numba takes a while to import: only where it is used
    )

    among, first_text, room = _layout(shared, views, order)
    return decide(among, first_text, shared.starts, shared.bucket, room, *compared, views, threshold, MOST_COMPARED)


def linked(shared: Buckets, compared: Grams, order: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """For each row the number of one of its group: rows that share a bucket and reach the threshold are in one, and so
    are those that are linked through others. Shapes as for ``stand_ins``, with one view.
    """
    from curricle.curate.selection.near_duplicates_kernel import link  # see stand_ins

    among, first_text, room = _layout(shared, 1, order)
    return link(among, first_text, shared.starts, shared.bucket, room, *compared, threshold, MOST_COMPARED)


def _layout(
    shared: Buckets, views: int, order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The rows in a bucket, in this order; the first text of each row, -1 for others; where each bucket begins."""
    first_text = np.full(len(shared.starts) - 1, -1)
    first_text[shared.rows] = np.arange(len(shared.rows)) * views
    sizes = np.bincount(shared.bucket, minlength=shared.total)
    return order[first_text[order] >= 0], first_text, np.cumsum(sizes) - sizes
