"""Pretokens of texts by number, in compiled loops where they pay."""

import sys
from collections.abc import Sequence

from curricle.schemas.chat.pretokens import Ints, NumbersByDict, PretokenNumbers, Splitter

FEW = 1 << 23
"""Characters: in a process that reads no more, a compiled loop saves less time than its libraries take to load."""
_COMPILED = "curricle.curate.compiled"


class NumbersOfMany:
    """``PretokenNumbers`` by a dictionary; in a compiled loop once there are many texts, or such loops are loaded."""

    def __init__(self, splitter: Splitter) -> None:
        self._splitter, self._read = splitter, 0
        self._by_dict = NumbersByDict(splitter)
        self._numbers: PretokenNumbers = self._by_dict

    def of(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        self._read += sum(map(len, texts))
        worth = self._read > FEW or _COMPILED in sys.modules
        if worth and self._numbers is self._by_dict and self._splitter.pretokens:
            from curricle.curate.proxy.pretokens.kernel import NumbersByBytes

            self._numbers = NumbersByBytes(self._splitter, [*self._by_dict])
            self._by_dict.clear()
        return self._numbers.of(texts)

    def take_new(self) -> list[str]:
        return self._numbers.take_new()

    @property
    def size(self) -> int:
        return self._numbers.size
