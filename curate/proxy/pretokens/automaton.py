r"""What a regular expression matches, as a table: one look for each character, and no way back over a text.

Characters are those below 256, so that it may as well be bytes that are read.

Of ``\s+(?!\S)|\s+`` the table is, by the characters that it tells apart:

| row | white space | another character | the end of the text |
|---|---|---|---|
| 0: over | 0 | 0 | 0 |
| 1: begun | 2 | 0 | 0 |
| 2: behind white space | 3, a match ends here | 0, a match ends here | 0, a match ends here |
| 3: behind more of it | 3, a match ends here | 0 | 0, a match ends here |

A row stands for all ways in which ``re`` could go on, in the order in which it would try them (Thompson's construction
with priorities, as in Cox, "Regular Expression Matching: the Virtual Machine Approach", 2009). A way that ends cuts off
those after it. That it has ended is seen at the character behind it, so that this may be a condition.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from re import _compiler, _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

END = 256
"""The column of the end of the text, behind those of the characters."""
_ANYTHING = (1 << END + 1) - 1
"""Characters are bits, the end of the text is one more."""


class _Step(NamedTuple):
    """A step of a match: it goes on by ``then``, the preferred first, where the next character is one of these."""

    characters: int
    then: tuple[int, ...]
    reads: bool = False
    """The character."""


_MATCHED = 0
Ways = tuple[tuple[int, int], ...]
"""Steps that read, or the match, and the characters that let them."""


@lru_cache(8)
def automaton(pattern: str) -> NDArray[np.int32]:
    """[row, character or END] → twice the row that follows, and one more if a match ends before this character.

    Row 0 is that no match goes on, row 1 that one begins. Of the flags of ``re``, ASCII is set. NotImplementedError for
    a pattern that has no such table.
    """
    steps = [_Step(_ANYTHING, ())]
    begin = _add(steps, _parser.parse(pattern, re.ASCII), _MATCHED, re.ASCII)

    def ways(at: int, characters: int = _ANYTHING) -> Iterator[tuple[int, int]]:
        step = steps[at]
        characters &= step.characters
        if step.reads or at == _MATCHED:
            yield at, characters
        else:
            for each in step.then:
                yield from ways(each, characters)

    @cache
    def after(at: int) -> Ways:
        return tuple(way for each in steps[at].then for way in ways(each))

    kinds = {step.characters for step in steps}
    alike: dict[tuple[int, ...], list[int]] = {}  # characters that no step tells apart
    for character in range(END + 1):
        alike.setdefault(tuple(kind >> character & 1 for kind in kinds), []).append(character)
    rows: dict[Ways, int] = {(): 0, tuple(ways(begin)): 1}
    table: list[NDArray[np.int32]] = []
    for fresh in iter(lambda: [*rows][len(table) :], []):
        for row in fresh:
            table.append(np.zeros(END + 1, np.int32))
            for characters in alike.values():
                following, ends = _follow(row, characters[0], after)
                table[-1][characters] = 2 * rows.setdefault(following, len(rows)) + ends
    return np.array(table)


def _follow(row: Ways, character: int, after: Any) -> tuple[Ways, bool]:
    following: dict[tuple[int, int], None] = {}
    for at, characters in row:
        if characters >> character & 1:
            if at == _MATCHED:
                return tuple(following), True
            following.update(dict.fromkeys(after(at)))
    return tuple(following), False


def _add(steps: list[_Step], nodes: Iterable[Any], then: int, flags: int) -> int:
    """Add the steps of an expression, as ``re`` reads it, before the step ``then``: its first one."""

    def add(*step: Any) -> int:
        steps.append(_Step(*step))
        return len(steps) - 1

    for node in reversed([*nodes]):
        match (str(node[0]), node[1]):
            case ("BRANCH", (_, alternatives)):
                then = add(_ANYTHING, tuple([_add(steps, each, then, flags) for each in alternatives]))
            case ("SUBPATTERN", (_, on, off, inner)):
                then = _add(steps, inner, then, (flags | on) & ~off)
            case ("MAX_REPEAT", (least, most, inner)) if most != _parser.MAXREPEAT:
                done = then
                for _ in range(most - least):
                    then = add(_ANYTHING, (_add(steps, inner, then, flags), done))
                then = _add(steps, [*inner] * least, then, flags)
            case ("MAX_REPEAT", (least, _, inner)) if inner.getwidth()[0]:
                again = add(_ANYTHING, ())
                steps[again] = _Step(_ANYTHING, (_add(steps, inner, again, flags), then))
                then = _add(steps, [*inner] * least, again, flags)
            case ("ASSERT_NOT", (1, inner)) if len(inner) <= 1:
                then = add(_ANYTHING & ~_characters(inner[0], flags) if len(inner) else 0, (then,))
            case _:
                then = add(_characters(node, flags), (then,), True)
    return then


def _characters(node: Any, flags: int) -> int:
    """Those that an expression of one character takes, asked of ``re`` itself."""
    if str(node[0]) not in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
        raise NotImplementedError(f"{node[0]} in a regular expression")
    takes = _compiler.compile(_parser.SubPattern(_parser.State(), [node]), flags).match
    return sum(1 << character for character in range(END) if takes(chr(character)))
