"""How a budget is shared out among strata. Sizes and shares are counts of rows, one for each stratum."""

from collections.abc import Sequence


def part_of(rows: int, part: int, parts: int) -> tuple[int, int]:
    """Start and stop of the part (from 0) of ``rows`` rows cut into ``parts``: the first ``rows % parts`` are longer.

    This is numpy's ``array_split``. The first part of each cluster, which Small2Large keeps (arXiv 2402.10430), rounds
    up, so that small clusters give more than their share.
    """
    size, longer = divmod(rows, parts)
    start = part * size + min(part, longer)
    return start, start + size + (part < longer)


def proportional(sizes: Sequence[int], budget: int) -> list[int]:
    """Shares by size that sum to the budget exactly: the largest remainders are rounded up (Hamilton's method).

    Equal remainders go to the stratum that comes first. ``budget`` is at most the sum of the sizes.
    """
    total = sum(sizes)
    assert 0 <= budget <= total, f"{budget} of {total} rows"
    if not budget:
        return [0] * len(sizes)
    shares = [budget * size // total for size in sizes]
    remainders = sorted(range(len(sizes)), key=lambda stratum: (-(budget * sizes[stratum] % total), stratum))
    for stratum in remainders[: budget - sum(shares)]:
        shares[stratum] += 1
    return shares


def equal(sizes: Sequence[int], budget: int) -> list[int]:
    """The same share for each stratum, as kMQ gives (arXiv 2409.11378); what a small one cannot fill, others get.

    The shares sum to the budget exactly; of a rest, the strata that come first get one row more each.
    """
    assert 0 <= budget <= sum(sizes), f"{budget} of {sum(sizes)} rows"
    shares = [0] * len(sizes)
    open_strata = [stratum for stratum, size in enumerate(sizes) if size]
    while budget:
        level = max(1, budget // len(open_strata))
        for stratum in open_strata:
            more = min(level, sizes[stratum] - shares[stratum], budget)
            shares[stratum] += more
            budget -= more
        open_strata = [stratum for stratum in open_strata if shares[stratum] < sizes[stratum]]
    return shares
