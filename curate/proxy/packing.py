"""Many rows of tokens as one forward pass: padded, or packed so that a beginning that rows share passes once.

Sorted, rows form a trie: each row leaves the one before it at some token, and only what follows is new. A pack is one
sequence of those new ends, each token at the position that it has in its own row. Attention is restricted to the path
of the row, so that a row sees its own tokens and no other row. Nothing is padded, and a chat template with its system
prompt, a quarter of the tokens of short rows, passes once. Four rows, their trie, and their pack of 12 tokens:

    row                                       text                     trie
    0   5820 253 2240 42 41730                Name a city: Oslo        5820 - 253 -+- 2240 - 42 - 41730
    1   5820 253 4354 42 11977                Name a fruit: apple                  +- 4354 - 42 -+- 11977
    2   5820 253 4354 42 21333 17306          Name a fruit: ripe pear                            +- 21333 - 17306
    3   7684 582                              Add one                  7684 - 582

    input_ids      5820  253 2240   42 41730 | 4354   42 11977 | 21333 17306 | 7684  582
    position_ids      0    1    2    3     4 |    2    3     4 |     4     5 |    0    1
    index             0    1    2    3     4 |    5    6     7 |     8     9 |   10   11
    row               0                      |    1            |     2       |    3
    attends to     [0, 5)                    | [0, 2) [5, 8)   | [0, 2) [5, 7) [8, 10)  | [10, 12)

With a budget of 8 tokens there are two packs. The first holds rows 0 and 1 and keeps the keys and values of 4 tokens,
all that row 2 has in common with row 1 (5820 253 4354 42, at 0, 1, 5 and 6). The second starts from these and holds 4
tokens: 21333 17306 at the positions 4 and 5, and row 3.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from curricle.curate.proxy.attention import PATTERNS, Fresh, Trunk, on_device
from curricle.schemas.chat.positions import Alike, always_alike
from numpy.typing import NDArray

TokenRow = Sequence[int]
_CPU = torch.device("cpu")


class ForwardInput(NamedTuple):
    """What a model reads, and for each row where its tokens are in the flattened input, from 0 and in order.

    Negative indices are tokens that passed with an earlier pack: -1 is the last of those that were kept.
    """

    inputs: dict[str, Any]
    paths: list[NDArray[np.int64]]


class Pack(NamedTuple):
    """The indices of rows that pass together, in lexicographic order.

    The first ``prefix`` tokens of the first row have passed with the pack before. The first ``next_prefix`` tokens of
    the last row will not pass again: their keys and values stay for the pack that follows.
    """

    rows: list[int]
    prefix: int
    next_prefix: int


def padded(rows: Sequence[TokenRow], device: torch.device) -> ForwardInput:
    """A row beside the other. The padding is on the right, where a causal model cannot see it: there is no mask,
    which would change nothing and cost the fast attention kernels."""
    longest = max(map(len, rows))
    ids = np.zeros((len(rows), longest), np.int64)
    for line, row in zip(ids, rows, strict=True):
        line[: len(row)] = row
    paths = [np.arange(len(row)) + index * longest for index, row in enumerate(rows)]
    return ForwardInput({"input_ids": on_device(ids, device)}, paths)


def packed(
    rows: Sequence[TokenRow], pack: Pack, trunk: Trunk, dtype: torch.dtype, device: torch.device = _CPU
) -> ForwardInput:
    """A pack of these rows as one sequence, for a model that is ``attending_in_packs``.

    ``trunk``: the one that the packs before have passed with, in order.
    """
    ids: list[int] = []
    positions: list[int] = []
    paths: list[NDArray[np.int64]] = []
    fresh: list[Fresh] = []
    way, prefix = PATTERNS[device.type], pack.prefix
    room = _up_to(prefix, way.block)
    before, path = rows[pack.rows[0]][:prefix], np.arange(-prefix, 0)
    for row in (rows[index] for index in pack.rows):
        common, start = _in_common(before, row), len(ids)
        ids += row[common:]
        positions += range(common, len(row))
        path = np.append(path[:common], np.arange(start, len(ids)))
        paths.append(path)
        fresh.append(Fresh(start, len(ids), common, _keys(path, prefix, room)))
        before = row
    width = _up_to(len(ids), way.block)
    keep = _keys(path[: pack.next_prefix], prefix, room)
    inputs = {
        "input_ids": on_device(_filled(ids, width)[None], device),
        "position_ids": on_device(_filled(positions, width)[None], device),
        "pattern": way.of(fresh, room, width, dtype, device),
        "trunk": trunk,
        "keep": on_device(_filled(keep, _up_to(len(keep), way.block)), device),
    }
    return ForwardInput(inputs, paths)


def packs(rows: Sequence[TokenRow], scored_from: Sequence[int], budget: int, alike: Alike = always_alike) -> list[Pack]:
    """All rows, as many in a pack as bring at most ``budget`` tokens to it; always at least one.

    ``scored_from``: the first index in each row whose hidden state is wanted, which therefore passes with its row.
    Only rows whose lengths are ``alike`` (schemas.chat.positions) share a pack, or what they have in common.
    """
    keys = [alike(len(row)) for row in rows]
    finished: list[Pack] = []
    batch: list[int] = []
    tokens = prefix = shared = 0
    for index in sorted(range(len(rows)), key=lambda index: (keys[index], tuple(rows[index]))):
        if batch and keys[index] != keys[batch[-1]]:
            finished.append(Pack(batch, prefix, 0))
            batch, tokens, prefix, shared = [], 0, 0, 0
        common = _in_common(rows[batch[-1]], rows[index]) if batch else 0
        fresh = len(rows[index]) - common
        shared = min(shared, common)
        if batch and (tokens + fresh > budget or scored_from[index] < shared):
            begins = min(common, scored_from[index])
            finished.append(Pack(batch, prefix, begins))
            batch, tokens, fresh, prefix, shared = [], 0, len(rows[index]) - begins, begins, begins
        batch.append(index)
        tokens += fresh
    return [*finished, Pack(batch, prefix, 0)] if batch else finished


def _in_common(one: TokenRow, other: TokenRow) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _up_to(tokens: int, block: int) -> int:
    """The next multiple of a block."""
    return -(-tokens // block) * block


def _filled(values: Sequence[int] | NDArray[np.int64], width: int) -> NDArray[np.int64]:
    filled = np.zeros(width, np.int64)
    filled[: len(values)] = values
    return filled


def _keys(path: NDArray[np.int64], prefix: int, room: int) -> NDArray[np.int64]:
    """Where the tokens of a path are among the keys: those of the trunk, filled up to ``room``, and of the pack."""
    return np.where(path < 0, path + prefix, path + room)
