"""Orders of rows, best first, that do not depend on where the rows stand."""

from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

RowIndices = NDArray[np.int64]
"""Row numbers of the table, from 0."""


def tie_order(table: pl.DataFrame) -> RowIndices:
    """All rows by ``example_id``, then ``source`` and ``source_position``: what decides where values are equal."""
    order = table.select(pl.arg_sort_by("example_id", "source", "source_position"))
    return order.to_series().to_numpy().astype(np.int64)


def uniform(ids: pl.Series, seed: int, purpose: bytes = b"") -> NDArray[np.float64]:
    """A number between 0 and 1, ends excluded, for each example id: a keyed hash, the same on every machine.

    ``purpose``: at most 16 bytes; numbers for two of them have nothing to do with each other.
    """
    key = seed.to_bytes(8, "big", signed=True)
    hashed = b"".join(blake2b(each.encode(), digest_size=8, key=key, person=purpose).digest() for each in ids)
    return ((np.frombuffer(hashed, ">u8") >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def by_value(values: NDArray[np.float64], ties: RowIndices) -> RowIndices:
    """The rows of ``ties`` from high to low values; those without a value (NaN) are left out."""
    ranked = ties[np.argsort(-values[ties], kind="stable")]  # NaN sorts last
    return ranked[: len(ranked) - int(np.isnan(values[ties]).sum())]


def sampling_keys(values: NDArray[np.float64], temperature: float, draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys whose largest k are a sample of k without replacement, with p ~ exp(value / temperature).

    Gumbel-top-k (Kool et al. 2019, arXiv 1903.06059): how QuRating (arXiv 2402.09739) and kMQ (arXiv 2409.11378) draw.
    """
    noise = -np.log(-np.log(draws))
    with np.errstate(over="ignore"):
        keys = values / temperature + noise
    if np.isinf(keys[np.isfinite(values)]).any():  # the same order, in another scale
        keys = values + temperature * noise
    return keys
