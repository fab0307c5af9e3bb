"""What all mixtures have in common: the column of the domains, and the order inside each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from curricle.schemas.common.config import option
from curricle.schemas.common.wording import counted, shortened
from curricle.train.curricula.base import Curriculum, Decision, Probe, ProbeResult, rng
from curricle.train.curricula.mixtures.inside import in_order, order_inside
from curricle.train.curricula.mixtures.mixing import Exhausted
from curricle.train.curricula.mixtures.streams import Stream
from curricle.train.curricula.mixtures.stride import UNITS
from curricle.train.data.domains import Domains
from curricle.train.data.table import Table

OFTEN = 4
"""Visits of a row in a pass: more teach little that is new (Muennighoff et al. 2023, arXiv 2305.16264)."""


@dataclass(frozen=True)
class OverDomains(Curriculum):
    """A curriculum over domains, each in an order of its own."""

    category: str = option("column whose values are the domains; null is one of them", "source")
    order: str = option(
        "the order inside a domain, NAME or NAME?key=value&key=value: random, sorted?by=loss, competence, …", "random"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.inside

    @cached_property
    def inside(self) -> Curriculum:
        return order_inside(self.order)

    def columns(self) -> tuple[str, ...]:
        return (self.category, *self.inside.columns())

    def decide(self, probe: Probe, result: ProbeResult, seed: int) -> Decision:
        return self.inside.decide(probe, result, seed)

    def visited_rows(self, table: Table, domains: Domains) -> list[int]:
        """How many rows of each domain the order inside visits."""
        there = in_order(table, self.inside) & (domains.codes >= 0)
        counts: list[int] = np.bincount(domains.codes[there], minlength=len(domains.names)).tolist()
        return counts

    def streams(self, table: Table, domains: Domains, seed: int, batches: Sequence[int]) -> list[Stream]:
        """The rows of each domain in their order. ``batches``: how many of it are in a global batch."""
        return [
            Stream(name, table, domains.rows(index), self.inside, derived(seed, index), max(1, batch))
            for index, (name, batch) in enumerate(zip(domains.names, batches, strict=True))
        ]


@dataclass(frozen=True)
class Mixed(OverDomains):
    """A mixture without an end: what becomes of a domain that runs out of rows is an option."""

    exhausted: Exhausted = option(
        "a domain all of whose rows were visited: repeat: begins again; drop: the others share its part until all are "
        "through; stop: ends the training",
        "repeat",
    )

    def end_in_words(self) -> str:
        return {
            "repeat": "a domain that runs out begins again",
            "drop": "a domain that runs out leaves its part to the others, until all are through",
            "stop": "the training ends when a domain runs out",
        }[self.exhausted]

    def order_in_words(self) -> str:
        return f"inside each, the order {self.order}"


def derived(seed: int, index: int) -> int:
    """A seed for one of several that have the same order, so that they do not draw alike."""
    return int(rng(seed, index).integers(2**31))


def shares_in_words(domains: Domains, units: Sequence[int], rows: int) -> str:
    """The share of each domain, and how often its rows are visited among so many."""
    parts = []
    for name, unit, size in zip(domains.names, units, domains.sizes, strict=True):
        visits = unit / UNITS * rows / size
        parts.append(f"{name} {unit / UNITS:.1%} ({counted(size, 'row')}, {visits:.2f} visits of each)")
    return shortened(parts)


def repeated(domains: Domains, units: Sequence[int], rows: int) -> Iterator[str]:
    """A line for each domain whose rows come often in a pass."""
    for name, unit, size in zip(domains.names, units, domains.sizes, strict=True):
        if (visits := unit / UNITS * rows / size) > OFTEN:
            yield f"{name} has {counted(size, 'row')}, each of which is visited {visits:.1f} times in a pass"
