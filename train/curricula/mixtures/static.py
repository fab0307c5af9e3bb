"""A fixed mixture: each domain has its share of the rows, whatever order is inside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, nan

from curricle.schemas.common.config import option
from curricle.schemas.common.errors import UsageError
from curricle.train.curricula.base import Steps, check
from curricle.train.curricula.mixtures.base import Mixed, repeated, shares_in_words
from curricle.train.curricula.mixtures.inside import asks
from curricle.train.curricula.mixtures.mixing import Mixing
from curricle.train.curricula.mixtures.stride import UNITS, quotas, to_units
from curricle.train.data.domains import Domains
from curricle.train.data.table import Table


def tempered(sizes: Sequence[int], temperature: float) -> list[float]:
    """p_i ~ n_i^(1 / temperature) (Arivazhagan et al. 2019, arXiv 1907.05019, section 4.2), largest 1.

    1 is as many rows as there are; the higher, the nearer to equal parts.
    """
    return [(size / max(sizes)) ** (1 / temperature) for size in sizes]


@dataclass(frozen=True)
class Mixture(Mixed):
    """Domains in fixed shares, which hold in every batch; inside each, an order of its own.

    The shares are ``weights``, or follow the sizes of the domains by a ``temperature``. With an order that follows the
    student, such as campus, each batch has the same number of rows of each domain.
    """

    weights: tuple[str, ...] = option(
        "NAME=WEIGHT,NAME=WEIGHT: domains and their parts of the rows; a name may be a pattern, as math*, and * stands "
        "for all others, together; 0 leaves rows out; none: as temperature says",
        (),
    )
    temperature: float = option(
        "without weights: a share is in proportion to n^(1/temperature) of n rows; 1: as the table has them, higher: "
        "nearer to equal",
        1.0,
        above=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        good = not self.weights or any(self.parts.values())
        check(good, "every weight is 0", "give a domain more than 0")
        check(
            not (asks(self.order) and self.exhausted == "drop"),
            f"exhausted=drop with order={self.order}",
            "its batches hold fixed numbers of rows: give exhausted=repeat or stop, or an order that asks nobody",
        )

    @cached_property
    def parts(self) -> dict[str, float]:
        """The weights by name, in the order in which they are given: a row is in the first pattern that it fits."""
        parts: dict[str, float] = {}
        for text in self.weights:
            name, _, number = text.rpartition("=")
            try:
                parts[name] = float(number) if name and name not in parts else nan
            except ValueError:
                parts[name] = nan
            check(0 <= parts[name] < inf, f"weights has {text!r}", "give each domain once, as NAME=WEIGHT, from 0")
        return parts

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        domains, units = self._shares(table)
        counts = self._counts(domains, units, batch) if asks(self.order) else quotas(units, batch)
        streams = self.streams(table, domains, seed, counts)
        mixing = Mixing(streams, self.exhausted)
        units, size = (counts, batch) if asks(self.order) else (units, self.epoch_rows(table))
        shares = {name: unit / sum(units) for name, unit in zip(domains.names, units, strict=True)}
        while not mixing.over:
            yield from mixing.train(mixing.turns(units, size), shares)

    def epoch_rows(self, table: Table) -> int:
        domains, units = self._shares(table)
        return sum(rows for rows, unit in zip(self.visited_rows(table, domains), units, strict=True) if unit)

    def describe(self, table: Table, batch: int) -> str:
        domains, units = self._shares(table)
        if asks(self.order):
            counts = quotas(units, batch)
            rows = ", ".join(f"{name} {count}" for name, count in zip(domains.names, counts, strict=True))
            return f"each batch has rows by {self.category}: {rows}; {self.order_in_words()}; {self.end_in_words()}"
        shares = shares_in_words(domains, units, self.epoch_rows(table))
        return f"fixed shares by {self.category}: {shares}; {self.order_in_words()}; {self.end_in_words()}"

    def remarks(self, table: Table, batch: int) -> Iterator[str]:
        if self.weights and self.temperature != Mixture.temperature:
            yield "temperature has no use with weights"
        domains, units = self._shares(table)
        without = [name for name, weight in self.parts.items() if not weight]
        for name in without:
            yield f"{name} has a weight of 0: its rows are left out"
        if self.exhausted == "repeat":
            yield from repeated(domains, units, self.epoch_rows(table))

    def domains(self, table: Table) -> Domains:
        return self._shares(table)[0]

    def _shares(self, table: Table) -> tuple[Domains, list[int]]:
        """The domains that have a share, and their units."""
        domains = Domains.of(table, self.category, [*self.parts])
        domains.check_whole(table, self.category, "weights")
        if not self.weights:
            domains.check_several(self.category, table.where)
            return domains, to_units(tempered(domains.sizes, self.temperature))
        weights = [self.parts[name] for name in domains.names]
        some = [index for index, weight in enumerate(weights) if weight]
        return domains.only(some), to_units([weights[index] for index in some])

    def _counts(self, domains: Domains, units: Sequence[int], batch: int) -> list[int]:
        counts = quotas(units, batch)
        for name, count, unit in zip(domains.names, counts, units, strict=True):
            if not count:
                raise UsageError(
                    f"a batch of {batch} has no row of {name!r}, whose share is {unit / UNITS:.1%}",
                    remedy=f"raise --batch.size, or the weight; {self.order} wants the same rows in every batch",
                )
        return counts
