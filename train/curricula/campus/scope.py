"""The learning scope s(t): which share of a sorted order the first t of T sub-curricula hold."""

from itertools import pairwise
from math import ceil
from typing import Literal

Reading = Literal["root", "root_shifted", "literal_exp"]


def scope(t: int, total: int, reading: Reading = "root", s1: float = 0.01, p: float = 2.0) -> float:
    """s(t) in [0, 1] for t = 0…total; s(0) = 0.

    ``root``: Platanios et al. 2019, with s(1) set to ``s1``; the most likely reading of CAMPUS (arXiv 2509.13790).
    ``root_shifted``: the same curve through s(1) = ``s1`` without a jump at t = 2.
    ``literal_exp``: the formula as it is commonly quoted. It is degenerate: with T = 100 and p = 2 the last slice holds
    49 % of the data and most others hold none.
    """
    if t < 1:
        return 0.0
    if reading == "literal_exp":
        return min(1.0, p ** (t - total) - s1 + s1 * p)
    if t == 1 and total > 1:
        return s1
    progress = t / total if reading == "root" or total == 1 else (t - 1) / (total - 1)
    return 1.0 if progress >= 1 else min(1.0, (progress * (1 - s1**p) + s1**p) ** (1 / p))


def cuts(rows: int, total: int, reading: Reading, s1: float, p: float) -> list[int]:
    """Where an order of ``rows`` rows is cut: sub-curriculum t = 1…total is the half-open range cuts[t-1]:cuts[t].

    Shares are rounded up to whole rows, so that the first slice is not empty; the last slice ends at the last row.
    """
    shares = [scope(t, total, reading, s1, p) for t in range(total)]
    ends = [ceil(share * rows - 1e-9) for share in shares] + [rows]  # 1e-9: a product that should be whole is whole
    assert all(first <= last for first, last in pairwise(ends))
    return ends
