"""Attention inside a pack: a token attends to the tokens of its own row before it, and to no other row.

Two ways to the same numbers, by device. On a CPU row after row, each with the keys of its own path and no others. On a
GPU that would be hundreds of small kernels a layer; there all rows are attended in one, torch's ``flex_attention``,
which reads no block of keys that no token of a block of queries may see.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface, PreTrainedModel

_ATTENTION = "curricle_packed"

Trunk = dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]
"""Keys and values, (1, heads, prefix, size), by layer, of the tokens that a pack goes on from."""


class Fresh(NamedTuple):
    """The tokens that a row adds to its pack, at the indices [start, end) of its sequence; ``common`` came before.

    ``keys``: where all tokens of the row are among the keys of the trunk, followed by those of the pack.
    """

    start: int
    end: int
    common: int
    keys: NDArray[np.int64]


class Pattern(Protocol):
    """Who attends to whom in a pack. Its tokens, and those of the trunk, are filled up to a multiple of ``block``."""

    block: ClassVar[int]

    @classmethod
    def of(cls, rows: Sequence[Fresh], room: int, width: int, dtype: torch.dtype, device: torch.device) -> Self:
        """For keys of ``room`` tokens of the trunk and ``width`` of the pack."""
        ...

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
        """(1, heads, width, size), (1, heads, room + width, size) twice -> (1, heads, width, size)"""
        ...


@dataclass(frozen=True)
class Branch:
    """The queries [start, end) of a row. They attend to the keys in ``ranges``.

    ``mask``: float (end - start, keys in ``ranges``), added to the attention scores; None where no token
    of the row has passed before, so that plain causal attention does.
    """

    start: int
    end: int
    ranges: Sequence[tuple[int, int]]
    mask: torch.Tensor | None


@dataclass(frozen=True)
class Branches:
    """Row after row."""

    block: ClassVar[int] = 1
    branches: Sequence[Branch]

    @classmethod
    def of(cls, rows: Sequence[Fresh], room: int, width: int, dtype: torch.dtype, device: torch.device) -> Self:
        branches = []
        for row in rows:
            if row.start < row.end:
                mask = None
                if row.common:
                    mask = torch.full((row.end - row.start, len(row.keys)), -torch.inf, dtype=dtype, device=device)
                    mask = mask.triu_(row.common + 1)
                branches.append(Branch(row.start, row.end, _ranges(row.keys), mask))
        return cls(branches)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
        attended = []
        for branch in self.branches:
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
                    scale=scale,
                    enable_gqa=query.shape[1] != key.shape[1],
                )
            )
        return torch.cat(attended, dim=2)


@dataclass(frozen=True)
class Tree:
    """All rows at once.

    A pack is its trie in depth-first order: below a token stand those of the rows that share it, one after the other.
    So a query attends to the key k where k is not after it and it is before ``ends[k]``, the end of what is below k.
    """

    block: ClassVar[int] = 128
    mask: BlockMask

    @classmethod
    def of(cls, rows: Sequence[Fresh], room: int, width: int, dtype: torch.dtype, device: torch.device) -> Self:
        return cls(_block_mask(ends_of(rows, room, width), room, device))

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
        grouped, attention = query.shape[1] != key.shape[1], _flex_attention(query.device.type)
        attended: torch.Tensor = attention(query, key, value, block_mask=self.mask, scale=scale, enable_gqa=grouped)
        return attended


PATTERNS: dict[str, type[Branches] | type[Tree]] = {"cpu": Branches, "cuda": Tree}


@contextmanager
def attending_in_packs(model: PreTrainedModel) -> Iterator[None]:
    """The model reads packs, and afterwards what it read before."""
    usual = model.config._attn_implementation
    model.set_attn_implementation(_ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def on_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array on a device, without waiting for it."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def ends_of(rows: Sequence[Fresh], room: int, width: int) -> NDArray[np.int64]:
    """For each key the end of the queries that are below it, as a key; 0 for those that fill up the trunk.

    Tokens that fill up the pack attend to themselves: a row of nothing would be no number.
    """
    ends = np.arange(1, room + width + 1)
    ends[:room] = 0
    before = rows[0].keys[: rows[0].common]
    for row in rows:
        ends[before[row.common :]] = room + row.start
        before = row.keys
    ends[before] = room + rows[-1].end
    return ends


def _block_mask(ends: NDArray[np.int64], room: int, device: torch.device) -> BlockMask:
    """Of which blocks of keys a block of queries reads all, some, or none.

    That follows from the first and the last token of a block, and is found on the host: on a device it would take a
    mask of all queries and keys.
    """
    block = Tree.block
    of_block = ends.reshape(-1, block)
    furthest, nearest = of_block.max(1), of_block.min(1)
    keys, queries = np.arange(0, len(ends), block), np.arange(room, len(ends), block)[:, None]
    some = (keys <= queries) & (furthest > queries)
    whole = (keys < queries) & (nearest >= queries + block)
    below, query_keys = on_device(ends, device), on_device(np.arange(room, len(ends)), device)

    def on_path(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (key <= query_keys[query]) & (query_keys[query] < below[key])

    sizes = len(ends) - room, len(ends)
    (counts, indices), (full_counts, full_indices) = (_indices(each, device) for each in (some & ~whole, whole))
    return BlockMask.from_kv_blocks(
        counts, indices, full_counts, full_indices, BLOCK_SIZE=block, mask_mod=on_path, seq_lengths=sizes
    )


def _indices(blocks: NDArray[np.bool_], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """How many blocks of keys are true for each block of queries, and which ones, first of all."""
    order = np.argsort(~blocks, axis=1, kind="stable").astype(np.int32)
    return on_device(blocks.sum(1, dtype=np.int32)[None, None], device), on_device(order[None, None], device)


@cache
def _flex_attention(device: str) -> Callable[..., Any]:
    # Sizes that change are compiled a second time, for all sizes. Uncompiled it would hold all scores in memory.
    function: Any = flex_attention
    return function if device == "cpu" else torch.compile(function)


def _ranges(keys: NDArray[np.int64]) -> list[tuple[int, int]]:
    """[5, 6, 9] -> [(5, 7), (9, 10)]"""
    parts = np.split(keys, np.flatnonzero(np.diff(keys) != 1) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    pattern: Pattern,
    trunk: Trunk,
    keep: torch.Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """(1, heads, T, size) -> (1, T, heads, size)"""
    if module in trunk:
        key, value = (torch.cat(states, dim=2) for states in zip(trunk.pop(module), (key, value), strict=True))
    if len(keep):
        trunk[module] = key[:, :, keep], value[:, :, keep]
    return pattern.attend(query, key, value, scaling).transpose(1, 2), None


# layers may be compiled around it: the trunk is a matter of the host
AttentionInterface.register(_ATTENTION, torch.compiler.disable(_attend))
