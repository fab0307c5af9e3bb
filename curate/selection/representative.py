"""Facility location: the rows that stand for all others best."""

import heapq

import numpy as np
import polars as pl
from curricle.schemas.common.errors import UsageError
from numpy.typing import NDArray

BLOCK = 256
DIGITS = 9  # gains that differ by less are equal: sums in another order, on another machine, choose the same


def matrix(vectors: pl.Series) -> NDArray[np.float32]:
    """A column of vectors without nulls, of shape (rows, dimensions). UsageError if it holds something else."""
    lists = vectors.arr.to_list() if isinstance(vectors.dtype, pl.Array) else vectors
    if not isinstance(lists.dtype, pl.List) or not lists.dtype.inner.is_numeric():  # type: ignore[union-attr]
        raise UsageError(f"column {vectors.name!r} holds {vectors.dtype}", remedy="name vectors, such as embedding")
    flat = lists.explode().cast(pl.Float32).to_numpy()
    if lists.list.len().n_unique() > 1 or not np.isfinite(flat).all():
        found = f"column {vectors.name!r} holds vectors of several lengths, or of what is no number"
        raise UsageError(found, remedy="name a column whose vectors are all of one model, such as embedding")
    return flat.reshape(len(vectors), -1) if len(vectors) else np.empty((0, 0), np.float32)


def facility_location(vectors: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """``count`` rows of ``vectors`` (rows, dimensions) in the order in which a greedy search adds them.

    It maximises the sum over all rows of the cosine similarity to the nearest row that was chosen, as the last step of
    Superfiltering does (arXiv 2402.00530, there by Euclidean distance, which orders unit vectors alike). Of equal gains
    the row that comes first wins. Gains only shrink, so that most need no new look (Minoux 1978). The first look takes
    rows² * dimensions multiplications, and memory for ``BLOCK`` * rows similarities.
    """
    unit = vectors.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    nearest = np.full(len(unit), -1.0)  # the lowest cosine

    def gains(rows: slice) -> NDArray[np.float64]:
        more = unit[rows] @ unit.T - nearest
        return np.round(np.maximum(more, 0, out=more).sum(axis=1), DIGITS)

    starts = range(0, len(unit), BLOCK)
    first = np.concatenate([np.empty(0), *(gains(slice(start, start + BLOCK)) for start in starts)])
    heap = [(-gain, row, 0) for row, gain in enumerate(first.tolist())]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        _, row, size = heapq.heappop(heap)
        if size < len(chosen):
            heapq.heappush(heap, (-float(gains(slice(row, row + 1))[0]), row, len(chosen)))
            continue
        chosen.append(row)
        np.maximum(nearest, unit @ unit[row], out=nearest)
    return np.array(chosen, np.int64)
