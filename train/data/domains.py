"""Which rows are in which domain: by the values of a column, each its own domain, or several by a pattern."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import counted, shortened
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray

MOST = 1000
"""Domains: a column with more values is none of categories."""


@dataclass(frozen=True, eq=False)
class Domains:
    """``codes``: the domain of each row, int64 (rows,), -1 for rows in none. ``names``, and ``sizes`` in rows."""

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, table: Table, category: str, patterns: Sequence[str] = ()) -> "Domains":
        """The domains by a column: a row is in the first pattern that its value is or fits, ``*`` being any letters.

        Without patterns every value is a domain. UsageError for a column that is no category, and for a pattern that no
        value fits.
        """
        codes, values = table.category(category)
        if len(values) > MOST:
            raise UsageError(
                f"column {category!r} has {len(values):,} values: too many for domains",
                where=table.where,
                remedy="name a column of categories, such as source",
            )
        if not patterns:
            return cls._counted(tuple(values), codes)
        domains = cls._counted(tuple(patterns), cls.fitting(values, patterns)[codes])
        if empty := [name for name, size in zip(domains.names, domains.sizes, strict=True) if not size]:
            parts = [f"*{name.strip('*')}*" for name in empty if name.strip("*")]
            meant = ", ".join(repr(part) for part in parts if any(_fits(value, part) for value in values))
            raise UsageError(
                f"no row is in domain {', '.join(map(repr, empty))} by {category}",
                where=table.where,
                remedy=(f"did you mean {meant}? " if meant else "")
                + "a row is in the first pattern that its value fits, and there are: "
                + shortened(list(map(repr, values))),
            )
        return domains

    @staticmethod
    def fitting(values: Sequence[str], patterns: Sequence[str]) -> NDArray[np.int64]:
        """The index of the first pattern that each value is or fits, int64 (values,); -1 where there is none."""
        return np.array(
            [next((at for at, each in enumerate(patterns) if _fits(value, each)), -1) for value in values], np.int64
        )

    @classmethod
    def _counted(cls, names: tuple[str, ...], codes: NDArray[np.int64]) -> "Domains":
        return cls(names, codes, tuple(np.bincount(codes[codes >= 0], minlength=len(names)).tolist()))

    def rows(self, domain: int) -> Rows:
        return np.flatnonzero(self.codes == domain)

    def counts(self, visits: NDArray[np.int64]) -> dict[str, tuple[int, int]]:
        """The rows of each domain, and how often they were visited; ``visits``: of each row, int64 (rows,)."""
        inside = self.codes >= 0
        sums = np.bincount(self.codes[inside], visits[inside], len(self.names))
        return {name: (size, int(total)) for name, size, total in zip(self.names, self.sizes, sums, strict=True)}

    def only(self, domains: Sequence[int]) -> "Domains":
        """Some of them, numbered from 0 again; the rows of others are in none."""
        index = np.full(len(self.names) + 1, -1, np.int64)  # the last stands for code -1
        index[list(domains)] = np.arange(len(domains))
        names, sizes = tuple(self.names[each] for each in domains), tuple(self.sizes[each] for each in domains)
        return Domains(names, index[self.codes], sizes)

    def check_several(self, category: str, where: str) -> None:
        """UsageError where there is nothing to mix."""
        if len(self.names) == 1:
            raise UsageError(
                f"every row has the same {category}, {self.names[0]!r}: with one domain there is nothing to mix",
                where=where,
                remedy="name another column as --curriculum.category, or choose another curriculum",
            )

    def check_whole(self, table: Table, category: str, option: str) -> None:
        """UsageError for rows whose value fits no pattern, so that none is left out unnoticed."""
        if left := int((self.codes < 0).sum()):
            codes, values = table.category(category)
            names = [repr(values[code]) for code in np.unique(codes[self.codes < 0])]
            raise UsageError(
                f"{counted(left, 'row')} of the table are in no domain: {option} does not name {shortened(names)}",
                where=table.where,
                remedy="name them too; * stands for all others, and a weight of 0 leaves rows out",
            )


def _fits(value: str, pattern: str) -> bool:
    return value == pattern or fnmatchcase(value, pattern)
