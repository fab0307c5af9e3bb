"""The sorted orders of CAMPUS, how far each has been followed, and which rows have been trained on.

Six rows, slices of two, a shared pointer, each row once. By loss the order is 0 1 | 2 3 | 4 5, by length it is
5 0 | 4 1 | 3 2. The student finds 0 1 easiest: it is trained on them, and both orders move on to 2 3 and 4 1. Now 2 3
is chosen. Then 4 5 stands against 3 2, of which both rows have been trained on, so that only 4 5 can be chosen.
Had it been 4 1 in the second step, 4 alone would have been trained on, and 2 3 passed over. If 4 5 then had come before
3 2, the round would have been over, and a second one, of orders that hold 2 and 3 alone, would have brought them back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from curricle.train.data.table import Rows
from numpy.typing import NDArray

Pointer = Literal["own", "shared"]
Seen = Literal["keep", "skip", "once"]


@dataclass(eq=False)
class Perspective:
    """One sorted order and how far it has been followed: ``visits`` of the slices between ``cuts`` have been opened.

    ``sign`` is 1 where high values of the column are hard, -1 where low ones are. ``all_rows``: the whole order, of
    which ``rows`` are those of this round.
    """

    name: str
    rows: Rows
    sign: int
    cuts: list[int] = field(default_factory=list)
    visits: int = 0
    all_rows: Rows = field(init=False)

    def __post_init__(self) -> None:
        self.all_rows = self.rows

    @property
    def exhausted(self) -> bool:
        return self.visits == len(self.cuts) - 1

    @property
    def next_slice(self) -> Rows:
        return self.rows[self.cuts[self.visits] : self.cuts[self.visits + 1]]

    @property
    def rest(self) -> Rows:
        return self.rows[self.cuts[self.visits] :]

    @property
    def opened(self) -> float:
        """The share of the rows of this round that has been opened."""
        return self.cuts[self.visits] / len(self.rows) if len(self.rows) else 1.0

    def advance(self) -> None:
        self.visits += not self.exhausted

    def replace_rest(self, rows: Rows) -> None:
        self.rows = np.concatenate([self.rows[: self.cuts[self.visits]], rows])

    def begin(self, rows: Rows, cuts: list[int]) -> None:
        """Follow another order from its start."""
        self.rows, self.cuts, self.visits = rows, cuts, 0


class Orders:
    """All perspectives of a run.

    ``visited``: which rows have been trained on in this epoch, bool (rows of the table,); rows that no perspective
    holds count as visited. ``round``: counts the rounds of an epoch from 0, where each row is trained on once.
    """

    def __init__(
        self,
        perspectives: Sequence[Perspective],
        rows: int,
        pointer: Pointer,
        seen: Seen,
        cut: Callable[[int, int, float], list[int]],
    ) -> None:
        """``rows``: of the table. ``cut``: where an order of so many rows is cut into slices, as many as the longest
        order, of so many rows, which is such a share of what it was in the first round.
        """
        self.by_name = {each.name: each for each in perspectives}
        self._pointer, self._seen, self._cut = pointer, seen, cut
        self._in_none = np.ones(rows, bool)
        for each in perspectives:
            self._in_none[each.rows] = False
        self.visited: NDArray[np.bool_] = self._in_none.copy()
        self.round = 0
        self._begin([each.rows for each in perspectives])

    @property
    def slices(self) -> int:
        """Into how many slices the orders of this round are cut, empty ones among them."""
        return max(len(each.cuts) - 1 for each in self.by_name.values())

    @property
    def competence(self) -> dict[str, float]:
        """Which share of each order has been opened in this epoch; all of it once a round is over."""
        return {name: 1.0 if self.round else each.opened for name, each in self.by_name.items()}

    def candidates(self) -> dict[str, Rows]:
        """The next slice of each perspective that has rows to train on; none if every order is exhausted.

        Others are passed over: each perspective's own, or with a shared pointer where none of all has any.
        """
        offers: dict[str, Rows] = {}
        while not offers and not all(each.exhausted for each in self.by_name.values()):
            for name, each in self.by_name.items():
                while not each.exhausted and name not in offers:
                    if len(self._to_train(each.next_slice)):
                        offers[name] = self._to_compare(each.next_slice)
                    elif self._pointer == "own":
                        each.advance()
                    else:
                        break
            if not offers and self._pointer == "shared":
                for each in self.by_name.values():
                    each.advance()
        return offers

    def take(self, name: str) -> Rows:
        """The rows to train on of the next slice of a perspective, and move on."""
        rows = self._to_train(self.by_name[name].next_slice)
        for each in self.by_name.values() if self._pointer == "shared" else [self.by_name[name]]:
            each.advance()
        self.visited[rows] = True
        return rows

    def begin_again(self) -> None:
        """Open the orders from their start: a round of the rows that were passed over, or else a new epoch."""
        over = bool(self.visited.all())
        self.visited = self._in_none.copy() if over else self.visited
        self.round = 0 if over or self._seen != "once" else self.round + 1
        if self._seen == "once":
            every = self.by_name.values()
            self._begin([each.all_rows if over else each.rows[~self.visited[each.rows]] for each in every])
        else:
            for each in self.by_name.values():
                each.visits = 0

    def _begin(self, orders: Sequence[Rows]) -> None:
        longest = max(len(rows) for rows in orders)
        share = longest / max(len(each.all_rows) for each in self.by_name.values())
        for each, rows in zip(self.by_name.values(), orders, strict=True):
            each.begin(rows, self._cut(len(rows), longest, share))

    def _to_train(self, rows: Rows) -> Rows:
        return rows if self._seen == "keep" else rows[~self.visited[rows]]

    def _to_compare(self, rows: Rows) -> Rows:
        return rows[~self.visited[rows]] if self._seen == "skip" else rows
