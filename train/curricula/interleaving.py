"""Orders by category: one category after the other, or all of them in turns (arXiv 2408.07888)."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from curricle.schemas.common.config import option
from curricle.train.curricula.base import Stage, Steps, rng
from curricle.train.curricula.bins import Binning
from curricle.train.data.domains import MOST, Domains
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray


def interleave(rows: Rows, categories: NDArray[np.int64], parts: int) -> Rows:
    """Cut each category's rows into ``parts`` near-equal parts; emit part 1 of every category, then part 2, and so on.

    ``categories``: int64 codes, one for each of ``rows``. Categories come in the order of their codes and rows in the
    order given. Parts are as ``numpy.array_split`` cuts them: the first ones hold one row more.
    ``parts=1`` gives blocks, ``parts=0`` strict turns of one row each.
    """
    grouped = np.argsort(categories, kind="stable")
    sizes = np.bincount(categories)
    position = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    if parts == 0:
        part = position
    else:
        small, larger = np.divmod(np.repeat(sizes, sizes), parts)
        in_larger = larger * (small + 1)
        part = np.where(
            position < in_larger, position // (small + 1), larger + (position - in_larger) // np.maximum(small, 1)
        )
    return rows[grouped][np.argsort(part, kind="stable")]


@dataclass(frozen=True)
class ByCategory(Binning):
    """Every epoch visits every row (with ``by``: every row that has the score) once."""

    category: str = option("column whose values are the categories; null is one of them", "source")
    by: str = option("sort inside each category by this score column; empty: shuffle", "")

    def columns(self) -> tuple[str, ...]:
        return (self.category, *([self.by] if self.by else []))

    def remarks(self, table: Table, batch: int) -> Iterator[str]:
        _, names = table.category(self.category)
        if len(names) == 1:
            like = f"sorted by {self.by}" if self.by else "random"
            yield f"every row has the same {self.category}, {names[0]!r}: with one category this is the order of {like}"
        if self.thresholds and not self.by:
            yield "thresholds has no use without by"

    def domains(self, table: Table) -> Domains | None:
        few = len(table.category(self.category)[1]) <= MOST
        return Domains.of(table, self.category) if few else None

    @abstractmethod
    def arrange(self, rows: Rows, categories: NDArray[np.int64], bins: NDArray[np.int64]) -> Rows:
        """The order of an epoch from rows in the order that they have inside a category."""

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        codes, _ = table.category(self.category)
        for epoch in count():
            random = rng(seed, epoch)
            if self.by:
                rows, bins = self.sort(table, self.by, seed, random)
            else:
                rows, bins = random.permutation(len(table)), np.zeros(len(table), np.int64)
            yield Stage(self.arrange(rows, codes[rows], bins))


@dataclass(frozen=True)
class Blocked(ByCategory):
    """One category after the other; with ``by`` the "blocked curriculum"."""

    def arrange(self, rows: Rows, categories: NDArray[np.int64], bins: NDArray[np.int64]) -> Rows:
        return interleave(rows, categories, 1)


@dataclass(frozen=True)
class Interleaved(ByCategory):
    """The categories in turns; with ``by`` the "interleaved curriculum".

    With ``by`` and ``thresholds`` the parts are the bins: all easy rows by category, then medium, then hard.
    """

    parts: int = option("into how many parts a category is cut; 0: strict turns of one row each", 3, at_least=0)

    def remarks(self, table: Table, batch: int) -> Iterator[str]:
        yield from super().remarks(table, batch)
        if self.by and self.thresholds and self.parts != Interleaved.parts:
            yield "parts has no use with by and thresholds: the bins are the parts"

    def arrange(self, rows: Rows, categories: NDArray[np.int64], bins: NDArray[np.int64]) -> Rows:
        return interleave(rows, categories, self.parts) if not bins.any() else rows[np.lexsort((categories, bins))]
