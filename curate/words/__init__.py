"""Words: Unicode words for lengths, and the tokens of lexicalrichness for lexical diversity."""

import re
import string
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from itertools import compress

import icu4py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from icu4py.breakers import WordBreaker
from numpy.typing import NDArray

SEGMENTATION = f"ICU {icu4py.icu_version}/icu4py {version('icu4py')}"
UNICODE = unicodedata.unidata_version  # of Python's own tables, which lower-case and tell letters from marks

# Written without spaces between words: the scripts that ICU segments by dictionary, and their relatives.
UNSPACED_SCRIPTS = (
    *("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar"),
    *("Tai_Le", "New_Tai_Lue", "Tai_Tham", "Tai_Viet", "Ahom"),
)
_UNSPACED = "[" + "".join(rf"\p{{{script}}}" for script in UNSPACED_SCRIPTS) + "]"

DASHES = "–—"  # deleted, like the hyphen: "stop-it" is one token
GAPS = "".join(c for c in map(chr, range(0x80, 0x10000)) if c.isspace())  # what str.split() splits at beyond ASCII
_TOKEN_TABLE = str.maketrans(dict.fromkeys(string.punctuation, " ") | dict.fromkeys(string.digits + "-" + DASHES, ""))

# UAX #29 in ASCII: what may stand between two letters or two digits, and underscores, which join all (WB5 to WB13b).
_JOINED = "(?:[A-Za-z](?:[.':][A-Za-z])*|[0-9](?:[.',;][0-9])*)"
_ASCII_WORD = f"_*{_JOINED}(?:_|{_JOINED})*"

_COMPILED = "curricle.curate.compiled"

_letter_or_number = re.compile(r"[^\W_]").search


def unicode_words(text: str) -> Iterator[str]:
    """The segments between Unicode word boundaries (UAX #29) that hold a letter, a number or an ideograph."""
    return filter(_letter_or_number, WordBreaker(text, "root"))


def count_words(texts: Sequence[str]) -> NDArray[np.int32]:
    """How many Unicode words each text has. Words of ASCII need no breaker: they are a regular expression, or a loop
    where compiled ones are loaded already.
    """
    column = pa.array(texts, pa.large_string())
    if _COMPILED in sys.modules:
        from curricle.curate.words.kernel import count_ascii_words

        counts = count_ascii_words(column)
    else:
        counts = pc.count_substring_regex(column, _ASCII_WORD).to_numpy().astype(np.int32)
    for row in np.flatnonzero(~pc.string_is_ascii(column).to_numpy(zero_copy_only=False)):
        counts[row] = sum(1 for _ in unicode_words(texts[row]))
    return counts


def hold_unspaced(texts: Sequence[str]) -> list[bool]:
    """Whether each text holds a character of a script that is written without spaces."""
    return _match(texts, _UNSPACED)


def _match(texts: Sequence[str], pattern: str) -> list[bool]:
    return pc.match_substring_regex(pa.array(texts, pa.large_string()), pattern).to_pylist()


def tokens(text: str) -> list[str]:
    """The tokens of lexicalrichness 0.5.1, except that ICU segments those of scripts without spaces.

    Lower case; digits, hyphens and dashes deleted; ASCII punctuation and white space separate.
    """
    split = text.lower().translate(_TOKEN_TABLE).split()
    if text.isascii():
        return split
    return list(_segmented(split, hold_unspaced(split)))


def _segmented(split: Iterable[str], unspaced: Iterable[bool]) -> Iterator[str]:
    for token, segment in zip(split, unspaced, strict=True):
        if segment:
            yield from list(unicode_words(token)) or [token]  # signs alone stay the token that they were
        else:
            yield token


def with_ascii_rules(texts: Sequence[str]) -> list[str]:
    """Texts with the same ``tokens``, in which only ASCII characters still separate or disappear.

    What is left (ASCII case, digits, hyphen, punctuation and white space) needs no Unicode table, so that
    a compiled loop over bytes can do it.
    """
    ready = list(texts)
    rows = [row for row, ascii in enumerate(map(str.isascii, ready)) if not ascii]
    rows = list(compress(rows, _match([ready[row] for row in rows], _beyond_ascii_rules())))
    for row, unspaced in zip(rows, hold_unspaced([ready[row] for row in rows]), strict=True):
        ready[row] = " ".join(tokens(ready[row])) if unspaced else _without_gaps(ready[row].lower())
    return ready


@cache
def _beyond_ascii_rules() -> str:
    """What matches a character beyond ASCII that is lower-cased, separates or disappears, or of an unspaced script."""
    lowered = [c for c in map(chr, range(0x80, 0x20000)) if c.lower() != c]  # there are none in later planes
    return _UNSPACED[:-1] + "".join(rf"\x{{{ord(c):x}}}" for c in [*lowered, *DASHES, *GAPS]) + "]"


def _without_gaps(text: str) -> str:
    for dash in DASHES:
        text = text.replace(dash, "")
    for gap in GAPS:
        text = text.replace(gap, " ")
    return text
