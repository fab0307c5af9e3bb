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

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from curricle.schemas.chat.positions import Alike, always_alike
from numpy.typing import NDArray
from transformers import AttentionInterface, PreTrainedModel

TokenRow = Sequence[int]
_ATTENTION = "curricle_packed"


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


@dataclass(frozen=True)
class Branch:
    """The tokens that a row adds to its pack, at the indices [start, end) of its sequence.

    They attend to the keys in ``ranges``: indices into the keys of the prefix, followed by those of the pack itself.
    ``mask``: float (end - start, keys in ``ranges``), added to the attention scores; None where no token
    of the row has passed before, so that plain causal attention does.
    """

    start: int
    end: int
    ranges: Sequence[tuple[int, int]]
    mask: torch.Tensor | None


Trunk = dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]
"""Keys and values, (1, heads, prefix, size), by layer, of the tokens that a pack goes on from."""


def padded(rows: Sequence[TokenRow], device: torch.device) -> ForwardInput:
    """A row beside the other. The padding is on the right, where a causal model cannot see it: there is no mask,
    which would change nothing and cost the fast attention kernels."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
    return ForwardInput({"input_ids": ids}, [np.arange(len(row)) + index * longest for index, row in enumerate(rows)])


def packed(rows: Sequence[TokenRow], pack: Pack, trunk: Trunk, dtype: torch.dtype) -> ForwardInput:
    """A pack of these rows as one sequence, for a model that is ``attending_along_branches``.

    ``trunk``: the one that the packs before have passed with, in order.
    """
    ids: list[int] = []
    positions: list[int] = []
    paths: list[NDArray[np.int64]] = []
    branches: list[Branch] = []
    prefix = pack.prefix
    before, path = rows[pack.rows[0]][:prefix], np.arange(-prefix, 0)
    for row in (rows[index] for index in pack.rows):
        common, start = _in_common(before, row), len(ids)
        ids += row[common:]
        positions += range(common, len(row))
        path = np.append(path[:common], np.arange(start, len(ids)))
        paths.append(path)
        if start < len(ids):
            mask = torch.full((len(ids) - start, len(row)), -torch.inf, dtype=dtype).triu_(common + 1)
            branches.append(Branch(start, len(ids), _ranges(prefix + path), mask if common else None))
        before = row
    inputs = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions])}
    return ForwardInput(
        {**inputs, "branches": branches, "trunk": trunk, "keep": prefix + path[: pack.next_prefix]}, paths
    )


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


@contextmanager
def attending_along_branches(model: PreTrainedModel) -> Iterator[None]:
    """The model reads packs, and afterwards what it read before."""
    usual = model.config._attn_implementation
    model.set_attn_implementation(_ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _in_common(one: TokenRow, other: TokenRow) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _ranges(path: NDArray[np.int64]) -> list[tuple[int, int]]:
    """[5, 6, 9] -> [(5, 7), (9, 10)]"""
    parts = np.split(path, np.flatnonzero(np.diff(path) != 1) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    branches: Sequence[Branch],
    trunk: Trunk,
    keep: NDArray[np.int64],
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """(1, heads, T, size) -> (1, T, heads, size)"""
    if module in trunk:
        key, value = (torch.cat(states, dim=2) for states in zip(trunk.pop(module), (key, value), strict=True))
    if len(keep):
        trunk[module] = key[:, :, keep], value[:, :, keep]
    attended = []
    for branch in branches:
        keys, values = (
            torch.cat([states[:, :, start:end] for start, end in branch.ranges], dim=2) for states in (key, value)
        )
        attended.append(
            torch.nn.functional.scaled_dot_product_attention(
                query[:, :, branch.start : branch.end],
                keys,
                values,
                attn_mask=branch.mask,
                is_causal=branch.mask is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(attended, dim=2).transpose(1, 2), None


AttentionInterface.register(_ATTENTION, _attend)
