"""MTLD of a batch of texts in compiled loops: bytes to tokens, tokens to numbers, numbers to MTLD.

The reference walks a Python list once in each direction and keeps a set. Here a token is a number that
counts the types of its text, and "is in the set" is "carries the stamp of the run that we are in", so that
starting a new run costs nothing. Every floating-point operation is the reference's, in its order. Scratch
memory is as long as the longest text and stays in the cache.
"""

import secrets
import string
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

_SEPARATES, _VANISHES = -1, -2
_BYTES = np.arange(256, dtype=np.int16)  # what becomes of each byte: another byte, or one of the two above
_BYTES[list(string.ascii_uppercase.encode())] = list(string.ascii_lowercase.encode())
_BYTES[list((string.digits + "-").encode())] = _VANISHES
_BYTES[list((string.punctuation.replace("-", "") + " \t\n\v\f\r\x1c\x1d\x1e\x1f").encode())] = _SEPARATES

# Results do not depend on the seed. It keeps a text from being written so that its tokens collide.
_SEED = np.uint64(secrets.randbits(64))
_ODD = np.uint64(0x9E3779B97F4A7C15)
_PACKED = 8  # as many bytes of a token as its 64-bit word holds


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled once for all processes where numba finds a place to keep the result, else in each of them."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # neither the installation nor the user's cache directory can be written
        return njit(function)


def mtld(texts: pa.LargeStringArray, threshold: float) -> np.ndarray:
    """MTLD of each text (float64), NaN for a text without words. Expects ``words.with_ascii_rules``."""
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return np.full(len(texts), np.nan)
    bounds = np.frombuffer(offsets, np.int64, len(texts) + 1)
    return _batch(np.frombuffer(data, np.uint8), bounds, _BYTES, _SEED, threshold)


@_compiled
def _split(text, table, seed, kept, ends, hashes):  # type: ignore[no-untyped-def]
    """Bytes of a text -> bytes, ends and hashes of its tokens, and how many there are.

    The hash of a token shorter than 8 bytes is a bijection of them.
    """
    size, one = np.uint64(text.size), np.uint64(1)  # unsigned: numba then leaves out the check for negative indices
    start = end = count = place = word = np.uint64(0)  # word: the last 8 bytes of the token
    while place <= size:
        byte = table[text[place]] if place < size else -1  # the end of a text separates, too
        place += one
        if byte >= 0:
            kept[end] = byte
            end += one
            word = (word << np.uint64(8)) | np.uint64(byte)
        elif byte == -1 and end > start:
            hashed = seed
            for letter in range(np.int64(start), np.int64(end) - _PACKED):
                hashed = (hashed ^ np.uint64(kept[letter])) * _ODD
            hashed = (hashed ^ word) * _ODD
            ends[count], hashes[count] = end, hashed ^ (hashed >> np.uint64(32))
            count += one
            start, word = end, np.uint64(0)
    return np.int64(count)


@_compiled
def _number(count, kept, ends, hashes, slots, numbers):  # type: ignore[no-untyped-def]
    """Tokens -> numbers from 0 that are equal exactly where the tokens are, and how many types there are."""
    size = 2
    while size < 2 * count:
        size *= 2
    slots[:size] = -1  # an open hash table: the first token of each type
    types = start = 0
    for token in range(count):
        length = ends[token] - start
        slot = np.int64(hashes[token] & np.uint64(size - 1))
        while slots[slot] >= 0:
            other = slots[slot]
            begin = ends[other - 1] if other else 0
            if hashes[other] == hashes[token] and ends[other] - begin == length:
                letter = 0 if length >= _PACKED else length
                while letter < length and kept[begin + letter] == kept[start + letter]:
                    letter += 1
                if letter == length:
                    break
            slot = (slot + 1) & (size - 1)
        if slots[slot] >= 0:
            numbers[token] = numbers[slots[slot]]
        else:
            slots[slot], numbers[token] = token, types
            types += 1
        start = ends[token]
    return types


@_compiled
def _factors(numbers, threshold, seen, run):  # type: ignore[no-untyped-def]
    """Numbers of tokens -> how many factors they make in this direction, and the next unused stamp."""
    words = types = whole = 0
    ratio = 0.0
    for number in numbers:
        words += 1
        types += seen[number] != run
        seen[number] = run
        ratio = types / words
        if ratio <= threshold:
            whole += 1
            words = types = 0
            run += 1
    factors = float(whole)
    if words > 0:
        factors += (1 - ratio) / (1 - threshold)
    return (factors if factors > 0 else 1.0), run + 1  # none at all: no word comes twice


@_compiled
def _batch(data, bounds, table, seed, threshold):  # type: ignore[no-untyped-def]
    """Texts, end to end -> MTLD of each."""
    longest = 0
    for row in range(bounds.size - 1):
        longest = max(longest, bounds[row + 1] - bounds[row])
    most = longest // 2 + 1  # tokens in a text
    kept = np.empty(longest, np.uint8)
    ends, hashes = np.empty(most, np.int64), np.empty(most, np.uint64)
    numbers, seen = np.empty(most, np.int64), np.empty(most, np.int64)
    slots = np.empty(4 * most, np.int64)
    result = np.full(bounds.size - 1, np.nan)
    for row in range(result.size):
        count = _split(data[bounds[row] : bounds[row + 1]], table, seed, kept, ends, hashes)
        if count > 0:
            types = _number(count, kept, ends, hashes, slots, numbers)
            seen[:types] = 0
            forward, run = _factors(numbers[:count], threshold, seen, 1)
            backward, run = _factors(numbers[:count][::-1], threshold, seen, run)
            result[row] = (count / forward + count / backward) / 2
    return result
