"""Rows parted into several sets, in groups that never part: which group goes where."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from curricle.curate.selection.shares import proportional
from numpy.typing import NDArray


def groups(keys: pl.Series, ids: pl.Series) -> tuple[NDArray[np.int64], pl.Series, int]:
    """The group of each row, from 0; the key of each group, rising; and how many keys were linked to another.

    ``keys``: one text for each row; rows with one key are in one group. So are rows with one of the ``ids``, whatever
    their keys: a group that is linked so has the least of its keys.
    """
    values = keys.unique().sort()
    group = keys.rank("dense").cast(pl.Int64).to_numpy() - 1
    example = ids.rank("dense").cast(pl.Int64).to_numpy() - 1
    total = int(example.max(initial=-1)) + 1
    pairs = np.unique(example * len(values) + group)  # fewer than 2^63
    if len(pairs) == total:  # no id stands in two groups
        return group, values, 0
    from scipy.sparse import coo_array  # only where groups are linked
    from scipy.sparse.csgraph import connected_components

    one, other = np.divmod(pairs, len(values))
    link = coo_array((np.ones(len(pairs), np.int8), (one, total + other)), shape=(total + len(values),) * 2)
    component = connected_components(link, directed=False)[1][total:]
    _, first, together = np.unique(component, return_index=True, return_inverse=True)
    order = np.argsort(first)  # rising keys, as before
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[together][group], values.gather(first[order]), len(values) - len(first)


def assign(sizes: NDArray[np.int64], draws: NDArray[np.float64], rooms: Sequence[int]) -> NDArray[np.int64]:
    """The split of each group, from 0. ``rooms``: the rows that each split should have, which sum to all rows.

    The larger groups go first, those of one size in the order of their ``draws`` (one number between 0 and 1 for each
    group, such as a hash of its key). A group is drawn into a split with a chance in proportion to the room that is
    left, among the splits into which it still fits; where it fits into none, it goes into the one with the most room.
    Groups of one row fill what is left, so that the sizes are exact wherever there are enough of them.
    """
    left, chosen = np.array(rooms, np.int64), np.empty(len(sizes), np.int64)
    order = np.lexsort((draws, -sizes))
    several = int((sizes > 1).sum())
    for group in order[:several]:
        size = sizes[group]
        chances = np.where(left >= size, left, 0)
        if chances.any():
            split = int(np.searchsorted(np.cumsum(chances), draws[group] * chances.sum(), side="right"))
        else:
            split = int(left.argmax())
        chosen[group] = split
        left[split] -= size
    room = np.maximum(left, 0).tolist()
    chosen[order[several:]] = np.repeat(np.arange(len(rooms)), proportional(room, len(sizes) - several))
    return chosen
