"""Words of ASCII in a compiled loop: ``count_words`` for a process that has loaded what compiles loops anyway."""

import numpy as np
import pyarrow as pa
from curricle.curate.compiled import compiled
from numpy.typing import NDArray

# What a byte is: what separates; what joins two letters or two digits that it stands between; and what a word is of.
_SEPARATES, _JOINS_LETTERS, _JOINS_DIGITS, _JOINS_BOTH, _UNDERSCORE, _LETTER, _DIGIT = range(7)
_KINDS = np.zeros(256, np.uint8)
for _bytes, _kind in (
    (b":", _JOINS_LETTERS),
    (b",;", _JOINS_DIGITS),
    (b".'", _JOINS_BOTH),
    (b"_", _UNDERSCORE),
    (b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", _LETTER),
    (b"0123456789", _DIGIT),
):
    _KINDS[[*_bytes]] = _kind


def count_ascii_words(texts: pa.LargeStringArray) -> NDArray[np.int32]:
    """How many words of ASCII each text has; no text is null."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return _count(np.frombuffer(data or b"", np.uint8), bounds, _KINDS)


@compiled
def _count(text, bounds, kinds):  # type: ignore[no-untyped-def]
    """Bytes of texts, end to end -> how many words each has."""
    counts = np.zeros(bounds.size - 1, np.int32)
    for row in range(counts.size):
        words, inside, before = 0, False, _SEPARATES
        for position in range(bounds[row], bounds[row + 1]):
            kind = kinds[text[position]]
            if kind >= _LETTER:
                words += not inside
                inside = True
            elif kind == _SEPARATES:
                inside = False
            elif kind != _UNDERSCORE:
                after = kinds[text[position + 1]] if position + 1 < bounds[row + 1] else _SEPARATES
                inside = (
                    inside
                    and before == after
                    and ((after == _LETTER and kind != _JOINS_DIGITS) or (after == _DIGIT and kind != _JOINS_LETTERS))
                )
            before = kind
        counts[row] = words
    return counts
