"""MTLD of a batch of texts in compiled loops: bytes to tokens, tokens to numbers, numbers to MTLD.

The reference walks a Python list once in each direction and keeps a set. Here a token is the number of the first one
like it, "is in the set" is "carries the stamp of the run that we are in", so that starting a new run costs nothing, and
letters are read eight at a time. Every floating-point operation is the reference's, in its order. Scratch memory is as
long as the longest text and stays in the cache.
"""

import secrets
import string
import sys
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from curricle.curate.compiled import compiled
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.lib.stride_tricks import as_strided

assert sys.byteorder == "little", "the first byte of a word is its lowest"

_SEPARATES, _VANISHES = -1, -2
_BYTES = np.arange(256, dtype=np.int64)  # what becomes of each byte: a letter, or one of the two above
_BYTES[list((string.digits + "-").encode())] = _VANISHES
_BYTES[list((string.punctuation.replace("-", "") + " \t\n\v\f\r\x1c\x1d\x1e\x1f").encode())] = _SEPARATES

# Results do not depend on the seed. It keeps a text from being written so that its tokens collide.
_SEED = np.uint64(secrets.randbits(64))
_ODD = np.uint64(0x9E3779B97F4A7C15)

# A word is eight bytes. All numbers are unsigned: numba then leaves out the check for negative indices.
_0, _1, _2, _3, _8, _32, _64 = map(np.uint64, (0, 1, 2, 3, 8, 32, 64))
_ONES = np.uint64(2**64 - 1)


def _eight(byte: int) -> np.uint64:
    return np.uint64(byte * 0x0101010101010101)


_HIGH, _LOW, _CASE = _eight(0x80), _eight(0x7F), _eight(0x20)
_FROM_A, _PAST_Z = _eight(0x80 - ord("a")), _eight(0x80 - ord("z") - 1)  # added to a byte, they carry into its high bit

_RUN = 512
"""Words: for a run that is not longer, the most types that end it are looked up and no ratio is computed."""


def mtld(texts: Sequence[str], threshold: float) -> np.ndarray:
    """MTLD of each text (float64), NaN for a text without words. Expects ``words.with_ascii_rules``."""
    padded = pa.array([*texts, " " * 8], pa.large_string())  # so that a word begins at every byte of every text
    _, offsets, data = padded.buffers()
    bounds = np.frombuffer(offsets, np.int64, len(padded) + 1)
    text, buffer = np.frombuffer(data, np.uint8), np.empty(int(np.diff(bounds).max()) + 8, np.uint8)
    return _batch(text, _words(text), bounds.view(np.uint64), buffer, _words(buffer), _BYTES, _SEED, threshold)


def _words(array: np.ndarray) -> np.ndarray:
    """The words that begin at each byte: they overlap, and share the array's memory."""
    return as_strided(array[:8].view(np.uint64), (array.size - 7,), (1,))


@compiled
def _split(text, words, position, end, table, seed, buffer, buffer_words, ends, hashes):  # type: ignore[no-untyped-def]
    """Bytes of a text, from ``position`` to ``end`` -> the bytes of its tokens and their hashes; returns how many.

    Token i is ``buffer[ends[i]:ends[i + 1]]``. The hash of a token of up to 8 bytes is a bijection of them.
    """
    size = start = count = _0
    while True:
        word = words[position]
        folded = (word & _LOW) | _CASE
        ascii_letters = (folded + _FROM_A) & ~(folded + _PAST_Z) & ~word & _HIGH
        others = ~(ascii_letters | word) & _HIGH
        letters = min(trailing_zeros(others) >> _3, end - position)
        buffer_words[size] = word | ((ascii_letters & (~word << _2)) >> _2)  # what follows the letters is written over
        size += letters
        position += letters
        if letters == _8:
            continue
        byte = table[text[position]] if position < end else _SEPARATES
        if byte >= 0:
            buffer[size] = byte
            size += _1
        elif byte == _SEPARATES and size > start:
            hashed = seed
            if size - start > _8:
                while start + _8 < size:
                    hashed = (hashed ^ buffer_words[start]) * _ODD
                    hashed ^= hashed >> _32
                    start += _8
                hashed ^= buffer_words[size - _8]
            else:
                hashed ^= buffer_words[start] & (_ONES >> (_64 - ((size - start) << _3)))
            hashed *= _ODD
            hashes[count] = hashed ^ (hashed >> _32)
            count += _1
            ends[count] = start = size
        if position >= end:
            return count
        position += _1


@compiled
def _number(count, buffer, ends, hashes, slots, before, numbers):  # type: ignore[no-untyped-def]
    """Tokens -> for each the first one that is equal.

    ``slots``: an open hash table of tokens, which holds ``before`` + 1 + the token. What is not more is left over from
    texts before this one.
    """
    most = _2
    while most < _2 * count:
        most *= _2
    for token in range(count):
        start, length = ends[token], ends[token + _1] - ends[token]
        slot = hashes[token] & (most - _1)
        while slots[slot] > before:
            other = slots[slot] - before - _1
            if hashes[other] == hashes[token] and ends[other + _1] - ends[other] == length:
                letter = _0 if length > _8 else length
                while letter < length and buffer[ends[other] + letter] == buffer[start + letter]:
                    letter += _1
                if letter == length:
                    break
            slot = (slot + _1) & (most - _1)
        if slots[slot] <= before:
            slots[slot] = before + _1 + token
        numbers[token] = slots[slot] - before - _1


@compiled
def _factors(numbers, threshold, most_types, last_run, run):  # type: ignore[no-untyped-def]
    """Numbers of tokens -> how many factors they make in this direction, and the next unused stamp."""
    words = types = _0
    whole = 0
    for number in numbers:
        words += _1
        types += np.uint64(last_run[number] != run)
        last_run[number] = run
        if types <= most_types[words] if words < most_types.size else types / words <= threshold:
            whole += 1
            words = types = _0
            run += _1
    factors = float(whole)
    if words > 0:
        factors += (1 - types / words) / (1 - threshold)
    return (factors if factors > 0 else 1.0), run + _1  # none at all: no word comes twice


@compiled
def _batch(text, words, bounds, buffer, buffer_words, table, seed, threshold):  # type: ignore[no-untyped-def]
    """Texts, end to end, and one more -> MTLD of each."""
    most_types = np.zeros(_RUN, np.uint64)
    for length in range(1, _RUN):
        most = length
        while most / length > threshold:
            most -= 1
        most_types[length] = most
    most = buffer.size // 2  # tokens in a text
    ends, hashes = np.zeros(most + 1, np.uint64), np.empty(most, np.uint64)
    numbers, last_run = np.empty(most, np.uint64), np.zeros(most, np.uint64)
    slots = np.zeros(4 * most, np.uint64)
    result = np.full(bounds.size - 2, np.nan)
    before, run = _0, _1
    for row in range(result.size):
        count = _split(text, words, bounds[row], bounds[row + 1], table, seed, buffer, buffer_words, ends, hashes)
        if count > 0:
            _number(count, buffer, ends, hashes, slots, before, numbers)
            before += count
            forward, run = _factors(numbers[:count], threshold, most_types, last_run, run)
            backward, run = _factors(numbers[:count][::-1], threshold, most_types, last_run, run)
            result[row] = (count / forward + count / backward) / 2
    return result
