"""From the rows of one global batch to the sequences of each process, without mixing documents.

Nothing here reaches across a global batch: which rows share an optimizer step is the curriculum's business alone. No
attention mask is ever made. Padding stands on the right, where a causal model cannot see it; documents that share a
sequence are kept apart by position ids that begin again at 0, from which transformers derives the isolation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from curricle.schemas.chat.positions import Alike, always_alike
from curricle.train.data.encoding import Encoded
from numpy.typing import NDArray

Lengths: TypeAlias = NDArray[np.int64]
Indices: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Size:
    """What a forward pass costs: tokens without padding, scored tokens, and the sum of squared document lengths."""

    tokens: int = 0
    scored: int = 0
    squares: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(self.tokens + other.tokens, self.scored + other.scored, self.squares + other.squares)


@dataclass(frozen=True)
class MicroBatch:
    """Sequences for one forward pass. B sequences of T tokens, S scored tokens.

    ``ids_BT``, ``positions_BT``: int64; ``positions_BT`` is None where every document begins a sequence.
    ``positions_S``: flat positions whose next token is scored; ``targets_S``: those next tokens.
    ``documents``: indices of the documents in the global batch, and ``counts`` their scored tokens, in the order of S.
    """

    ids_BT: torch.Tensor
    positions_BT: torch.Tensor | None
    positions_S: torch.Tensor
    targets_S: torch.Tensor
    documents: tuple[int, ...]
    counts: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def size(self) -> "Size":
        return Size(sum(self.lengths), len(self.targets_S), sum(length * length for length in self.lengths))

    def to(self, device: torch.device) -> "MicroBatch":
        if device.type == "cpu":
            return self
        moved = {
            name: value.pin_memory().to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return MicroBatch(**{**vars(self), **moved})


def micro_batches(
    documents: Sequence[Encoded], capacity: int, world: int, packing: bool, alike: Alike = always_alike
) -> list[list[MicroBatch]]:
    """The forward passes of every process for one global batch: as many for each, of at most ``capacity`` tokens.

    With ``packing``, consecutive documents share a sequence, in order. Without it, documents of similar length share a
    padded micro-batch. Where documents are too few, a process gets a pass over nothing, so that all run alike.
    Only documents whose lengths are ``alike`` (schemas.chat.positions) share a pass.
    """
    groups = shares([len(document) for document in documents], capacity, world, packing, alike)
    return [[_sequence(documents, group, packing) if len(group) else _nothing() for group in share] for share in groups]


def shares(
    lengths: Sequence[int], capacity: int, world: int, packing: bool = False, alike: Alike = always_alike
) -> list[list[Indices]]:
    """The indices of the documents in each forward pass of every process, see ``micro_batches``; none in some."""
    sizes: Lengths = np.array(lengths, np.int64)
    full = np.flatnonzero(sizes)
    assert sizes.max(initial=0) <= capacity, "a document is longer than a forward pass"
    if not packing:
        full = full[np.argsort(-sizes[full], kind="stable")]  # longest first: out of memory shows at once
    keys = np.array([alike(int(length)) for length in sizes[full]], np.int64)
    parts = [full[keys == key] for key in dict.fromkeys(keys.tolist())]
    passes = [part[group] for part in parts for group in _balanced(sizes[part], capacity, world, packing)]
    passes += [full[:0]] * (-len(passes) % world or (world if not passes else 0))
    return [passes[rank::world] for rank in range(world)]


def _balanced(lengths: Lengths, capacity: int, world: int, packing: bool) -> list[Indices]:
    """Consecutive groups within ``capacity``, as many as a multiple of ``world`` allows, and as even as can be."""
    wanted = -(-len(_greedy(lengths, capacity, packing)) // world) * world
    low, high = int(lengths.max(initial=0)), capacity
    while low < high:  # the smallest capacity that needs no more groups than wanted
        middle = (low + high) // 2
        if len(_greedy(lengths, middle, packing)) <= wanted:
            high = middle
        else:
            low = middle + 1
    return _greedy(lengths, high, packing)


def _greedy(lengths: Lengths, capacity: int, packing: bool) -> list[Indices]:
    """Consecutive groups, each as large as fits: by the sum of its lengths when packed, else by its padded area."""
    ends = np.cumsum(lengths)
    groups, start = [], 0
    while start < len(lengths):
        if packing:
            end = int(np.searchsorted(ends, ends[start] - lengths[start] + capacity, side="right"))
        else:
            end = start + capacity // int(lengths[start])  # the first of a group is its longest
        groups.append(np.arange(start, min(end, len(lengths))))
        start = end
    return groups


def _sequence(documents: Sequence[Encoded], indices: Indices, packing: bool) -> MicroBatch:
    """One sequence of all these documents, or one padded sequence for each."""
    chosen = [documents[index] for index in indices]
    lengths = [len(document) for document in chosen]
    if packing:
        width, starts = sum(lengths), np.cumsum([0, *lengths[:-1]])
        ids = np.concatenate([document.ids for document in chosen])[None]
        positions = np.concatenate([np.arange(length) for length in lengths])[None]
    else:
        width = max(lengths)
        starts, positions = np.arange(len(chosen)) * width, None
        ids = np.zeros((len(chosen), width), np.int64)
        for line, document in zip(ids, chosen, strict=True):
            line[: len(document)] = document.ids
    scored = np.concatenate([start + document.scored for start, document in zip(starts, chosen, strict=True)])
    return MicroBatch(
        torch.from_numpy(ids),
        None if positions is None else torch.from_numpy(positions),
        torch.from_numpy(scored - 1),
        torch.from_numpy(ids.reshape(-1)[scored]),
        tuple(indices.tolist()),
        tuple(len(document.scored) for document in chosen),
        tuple(lengths),
    )


def _nothing() -> MicroBatch:
    nothing = torch.zeros(0, dtype=torch.int64)
    return MicroBatch(torch.zeros((1, 1), dtype=torch.int64), None, nothing, nothing, (), (), ())
