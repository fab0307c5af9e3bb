"""Mixtures that follow the student's losses: which rows to train on next, and what is learned from their losses."""

from abc import abstractmethod
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

import numpy as np
from curricle.schemas.common.config import option
from curricle.train.curricula.base import Outcome, Probe, Stage, Steps
from curricle.train.curricula.mixtures.base import Mixed, shares_in_words
from curricle.train.curricula.mixtures.inside import STATIC, order_inside
from curricle.train.curricula.mixtures.mixing import Mixing
from curricle.train.curricula.mixtures.stride import UNITS, quotas, to_units
from curricle.train.data.domains import Domains
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray


@dataclass(frozen=True)
class DomainLosses:
    """What the steps between two updates came to. ``rows``: what was trained on, ``domains``: of each row, int64.

    ``nll``: sums over the response tokens of a row, in nats, float64; ``tokens``: over how many, int64.
    """

    rows: Rows
    domains: NDArray[np.int64]
    nll: NDArray[np.float64]
    tokens: NDArray[np.int64]

    def mean(self, values: NDArray[np.float64], domain: int) -> float | None:
        """The mean over the tokens of a domain of values that are sums over those of a row; None without a token.

        Sums are exact, so that they do not depend on the machine.
        """
        mine = (self.domains == domain) & (self.tokens > 0)
        tokens = int(self.tokens[mine].sum())
        return fsum(values[mine].tolist()) / tokens if tokens else None

    def by_domain(self, count: int) -> list[float | None]:
        """The mean loss of each domain, in nats per token."""
        return [self.mean(self.nll, domain) for domain in range(count)]


class Rule:
    """How weights follow from losses. ``weights``: of each domain, summing to 1."""

    weights: Sequence[float]

    def learn(self, losses: DomainLosses) -> None:
        """Take what came of the last steps, and change the weights."""
        raise NotImplementedError


@dataclass(frozen=True)
class AdaptiveMixture(Mixed):
    """A mixture whose weights follow the losses of what it trains on, every so many batches."""

    domain: tuple[str, ...] = option(
        "patterns of values that are one domain each, such as math*,code*,*; the first that fits; none: each value is "
        "a domain",
        (),
    )
    every: int = option("batches from one update of the weights to the next", 1, at_least=1, at_most=2**20)

    def __post_init__(self) -> None:
        super().__post_init__()
        order_inside(self.order, STATIC)

    @abstractmethod
    def rule(self, table: Table, domains: Domains) -> Rule:
        """The state that a run begins with."""

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        domains = self.domains(table)
        rule, size = self.rule(table, domains), batch * self.batches(table, batch)
        units = to_units(rule.weights)
        mixing = Mixing(self.streams(table, domains, seed, quotas(units, batch)), self.exhausted)
        yield from self.begin(table, domains, seed, rule, mixing, size)
        while losses := (yield from self.train(mixing, domains, rule.weights, size)):
            yield from self.follow(table, domains, seed, rule, losses)

    def begin(self, table: Table, domains: Domains, seed: int, rule: Any, mixing: Mixing, size: int) -> Steps:
        """What comes before the first weights are used; nothing, usually."""
        yield from ()

    def follow(self, table: Table, domains: Domains, seed: int, rule: Any, losses: DomainLosses) -> Steps:
        """Change the weights, after asking the student if need be."""
        rule.learn(losses)
        yield from ()

    def train(
        self, mixing: Mixing, domains: Domains, weights: Sequence[float], size: int
    ) -> Generator[Probe | Stage, Any, DomainLosses | None]:
        """Train on so many rows; None at the end. Where nobody waits for their losses, no row has a token."""
        if mixing.over:
            return None
        units = to_units(weights)
        shares = {name: unit / UNITS for name, unit in zip(domains.names, units, strict=True)}
        portion = yield from mixing.train(mixing.turns(units, size), shares, outcome=self.waits)
        if portion is None:
            return None
        outcome = portion.outcome or Outcome(np.zeros(len(portion.rows)), np.zeros(len(portion.rows), np.int64))
        return DomainLosses(portion.rows, portion.owners, outcome.nll, outcome.tokens)

    @property
    def waits(self) -> bool:
        """Whether the weights follow the losses of what is trained on."""
        return True

    def batches(self, table: Table, batch: int) -> int:
        """Batches between two updates."""
        return self.every

    def domains(self, table: Table) -> Domains:
        domains = Domains.of(table, self.category, self.domain)
        domains.check_whole(table, self.category, "domain")
        domains.check_several(self.category, table.where)
        return domains

    def epoch_rows(self, table: Table) -> int:
        return sum(self.visited_rows(table, self.domains(table)))

    def describe(self, table: Table, batch: int) -> str:
        domains = self.domains(table)
        every = self.batches(table, batch)
        rule = self.rule_in_words("batch" if every == 1 else f"{every:,} batches")
        first = shares_in_words(domains, to_units(self.rule(table, domains).weights), self.epoch_rows(table))
        return f"{rule}; at first, by {self.category}: {first}; {self.order_in_words()}; {self.end_in_words()}"

    @abstractmethod
    def rule_in_words(self, batches: str) -> str:
        """What its weights follow, after every so many ``batches``: batch, 4 batches."""

    def remarks(self, table: Table, batch: int) -> Iterator[str]:
        domains = self.domains(table)
        if len(domains.names) > batch:
            yield f"{len(domains.names)} domains and {batch} rows in a batch: many updates will know nothing of most"
