"""Rows of tokens as one forward pass: padded, or packed so that what rows have in common at their start passes once.

Rows in lexicographic order are a trie: each differs from the row before it in its end alone. A pack is one sequence
that holds of each row that end, at the positions that it has in its own row; what its first row has in common with the
last row of the pack before is kept in keys and values. Attention leads along a row's path, so that no row sees another.
There is no padding, and a template with its system prompt, a quarter of the tokens of short rows, is read once.
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

Row = Sequence[int]
_ATTENTION = "curricle_packed"


class Layout(NamedTuple):
    """What a model reads, and for each row the flat places of its tokens in that, in order; below 0 if kept."""

    inputs: dict[str, Any]
    paths: list[NDArray[np.int64]]


class Pack(NamedTuple):
    """Rows, by place and in lexicographic order, that pass together.

    The first ``known`` tokens of the first one have passed with the pack before; the next pack knows ``kept`` tokens
    of the last one.
    """

    rows: list[int]
    known: int
    kept: int


@dataclass(frozen=True)
class Branch:
    """What a row adds to its pack: places from ``start`` to ``end``, which attend to the keys in ``ranges``.

    Known keys come before those of the pack.

    ``mask``: float (end - start, places), added to their scores; None where it would be causal from the first place.
    """

    start: int
    end: int
    ranges: Sequence[tuple[int, int]]
    mask: torch.Tensor | None


Trunk = dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]
"""Keys and values, (1, heads, known, size), by layer, of what a pack knows from the one before it."""


def padded(rows: Sequence[Row], device: torch.device) -> Layout:
    """A row beside the other. The padding is on the right, where a causal model cannot see it: there is no mask,
    which would change nothing and cost the fast attention kernels."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
    return Layout({"input_ids": ids}, [np.arange(len(row)) + place * longest for place, row in enumerate(rows)])


def packed(rows: Sequence[Row], pack: Pack, trunk: Trunk, dtype: torch.dtype) -> Layout:
    """A pack of these rows as one sequence, for a model that is ``attending_along_branches``.

    ``trunk``: the one that the packs before have passed with, in order.
    """
    ids: list[int] = []
    positions: list[int] = []
    paths: list[NDArray[np.int64]] = []
    branches: list[Branch] = []
    known = pack.known
    before, path = rows[pack.rows[0]][:known], np.arange(-known, 0)
    for row in (rows[place] for place in pack.rows):
        common, start = _in_common(before, row), len(ids)
        ids += row[common:]
        positions += range(common, len(row))
        path = np.append(path[:common], np.arange(start, len(ids)))
        paths.append(path)
        if start < len(ids):
            mask = torch.full((len(ids) - start, len(row)), -torch.inf, dtype=dtype).triu_(common + 1)
            branches.append(Branch(start, len(ids), _ranges(known + path), mask if common else None))
        before = row
    inputs = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions])}
    return Layout({**inputs, "branches": branches, "trunk": trunk, "keep": known + path[: pack.kept]}, paths)


def packs(rows: Sequence[Row], scored_from: Sequence[int], budget: int, alike: Alike = always_alike) -> list[Pack]:
    """All rows, as many in a pack as bring at most ``budget`` tokens to it; always at least one.

    ``scored_from``: the first place in each row whose hidden state is wanted, which therefore passes with its row.
    Only rows whose lengths are ``alike`` (schemas.chat.positions) share a pack, or what they have in common.
    """
    keys = [alike(len(row)) for row in rows]
    made: list[Pack] = []
    batch: list[int] = []
    tokens = known = shared = 0
    for place in sorted(range(len(rows)), key=lambda place: (keys[place], tuple(rows[place]))):
        if batch and keys[place] != keys[batch[-1]]:
            made.append(Pack(batch, known, 0))
            batch, tokens, known, shared = [], 0, 0, 0
        common = _in_common(rows[batch[-1]], rows[place]) if batch else 0
        fresh = len(rows[place]) - common
        shared = min(shared, common)
        if batch and (tokens + fresh > budget or scored_from[place] < shared):
            begins = min(common, scored_from[place])
            made.append(Pack(batch, known, begins))
            batch, tokens, fresh, known, shared = [], 0, len(rows[place]) - begins, begins, begins
        batch.append(place)
        tokens += fresh
    return [*made, Pack(batch, known, 0)] if batch else made


@contextmanager
def attending_along_branches(model: PreTrainedModel) -> Iterator[None]:
    """The model reads packs, and afterwards what it read before."""
    usual = model.config._attn_implementation
    model.set_attn_implementation(_ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _in_common(one: Row, other: Row) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


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
