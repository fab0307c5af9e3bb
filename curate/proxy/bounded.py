"""Batches that fit: rows of like length together, and half as many where the memory does not suffice."""

import logging
from collections import deque
from collections.abc import Callable, Sequence

import torch
from curricle.schemas.chat.memory import is_out_of_memory
from curricle.schemas.chat.positions import Alike, always_alike

log = logging.getLogger("curricle")


def in_batches(
    lengths: Sequence[int],
    budget: int,
    work: Callable[[list[int]], None],
    failed: Callable[[int], None],
    alike: Alike = always_alike,
) -> None:
    """Call ``work`` with the indices of all rows, those of a batch padded to at most ``budget`` tokens.

    Only rows whose lengths are ``alike`` (schemas.chat.positions) share a batch.

    Longest first: rows of a batch need little padding, and a lack of memory shows at once. ``failed`` is told of a row
    that does not fit into memory alone.
    """
    waiting = deque(sorted(range(len(lengths)), key=lambda index: -lengths[index]))
    while waiting:
        batch = _take(waiting, lengths, budget, alike)
        try:
            work(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                failed(batch[0])
            else:
                budget = half_of(len(batch) * lengths[batch[0]])
                waiting.extendleft(reversed(batch))
            torch.cuda.empty_cache()


def half_of(tokens: int) -> int:
    """The tokens of a pass to try next where so many did not fit into memory, which is said."""
    half = max(1, tokens // 2)
    log.warning(
        "out of memory with %s tokens in a forward pass: it is made again with %s. No score depends on it; "
        "--proxy.batch-tokens %d spares the attempt",
        f"{tokens:,}",
        f"{half:,}",
        half,
    )
    return half


def _take(waiting: deque[int], lengths: Sequence[int], budget: int, alike: Alike) -> list[int]:
    """The next rows whose padded tokens fit the budget; always at least one."""
    batch = [waiting.popleft()]
    longest = lengths[batch[0]]
    while waiting and (len(batch) + 1) * longest <= budget and alike(lengths[waiting[0]]) == alike(longest):
        batch.append(waiting.popleft())
    return batch
