"""DoReMi (Xie et al. 2023, arXiv 2305.10429): more of the domains that are behind a reference model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
from curricle.schemas.common.config import option
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import counted
from curricle.train.curricula.mixtures.adaptive import AdaptiveMixture, DomainLosses, Rule
from curricle.train.data.domains import Domains
from curricle.train.data.table import Table, column_name
from numpy.typing import NDArray


def reweighted(weights: Sequence[float], excess: Sequence[float], eta: float, smoothing: float) -> list[float]:
    """alpha_t of Algorithm 1: alpha' = alpha_{t-1} exp(eta lambda_t), then (1 - c) alpha' / sum(alpha') + c / k."""
    logs = [log(weight) + eta * each for weight, each in zip(weights, excess, strict=True)]
    powers = [exp(each - max(logs)) for each in logs]
    return [(1 - smoothing) * power / sum(powers) + smoothing / len(powers) for power in powers]


class ExcessLoss(Rule):
    """The state of DoReMi. ``excess``: lambda of each domain, 0 until it was trained on."""

    def __init__(self, count: int, reference: NDArray[np.float64], eta: float, smoothing: float) -> None:
        """``reference``: the reference's loss on each row of the table, in nats per token, float64; NaN: not known."""
        self.excess, self.weights = [0.0] * count, [1 / count] * count
        self._reference, self._eta, self._smoothing = reference, eta, smoothing

    def learn(self, losses: DomainLosses) -> None:
        reference = self._reference[losses.rows]
        scored = ~np.isnan(reference)
        above = np.maximum(losses.nll - np.where(scored, reference, 0) * losses.tokens, 0)
        judged = DomainLosses(losses.rows, losses.domains, losses.nll, np.where(scored, losses.tokens, 0))
        self.update([judged.mean(above, domain) for domain in range(len(self.excess))])

    def update(self, excess: Sequence[float | None]) -> None:
        """A domain that no row was of keeps its last excess, as in the authors' code."""
        pairs = zip(excess, self.excess, strict=True)
        self.excess = [before if now is None else now for now, before in pairs]
        self.weights = reweighted(self.weights, self.excess, self._eta, self._smoothing)


@dataclass(frozen=True)
class Doremi(AdaptiveMixture):
    """Domain reweighting by excess loss (DoReMi, arXiv 2305.10429): more of the domains that are behind the reference.

    The reference is the loss that a column holds, such as that of the proxy which scored the table; no reference model
    is trained. The mean of the weights over the steps, which the run states at its end, is the mixture that the paper
    trains a larger model with. What is our reading: docs/methods.md.
    """

    reference: str = option("column with the reference's loss of each row, in nats per token", "loss")
    eta: float = option("step of the weights", 1.0, above=0, at_most=1e6)
    smoothing: float = option("c: the part of the weights that is equal for all", 1e-3, above=0, at_most=1)

    def columns(self) -> tuple[str, ...]:
        return (*super().columns(), self.reference)

    def rule(self, table: Table, domains: Domains) -> ExcessLoss:
        reference = table.numbers(column_name(self.reference))
        if np.isnan(reference).all():
            raise UsageError(
                f"every value of column {self.reference!r} is null, so that there is no reference",
                where=table.where,
                remedy="score the table with metric loss, or name another column as --curriculum.reference",
            )
        return ExcessLoss(len(domains.names), reference, self.eta, self.smoothing)

    def rule_in_words(self, batches: str) -> str:
        behind = f"by how much the training loss of a domain is above {self.reference}"
        return f"DoReMi: after every {batches} the weights follow {behind}"

    def remarks(self, table: Table, batch: int) -> Iterator[str]:
        yield from super().remarks(table, batch)
        domains, reference = self.domains(table), table.numbers(column_name(self.reference))
        for index, name in enumerate(domains.names):
            without = int(np.isnan(reference[domains.rows(index)]).sum())
            if without == domains.sizes[index]:
                yield f"no row of {name} has a {self.reference}: its excess stays 0, and its weight falls"
            elif without:
                yield f"{counted(without, 'row')} of {name} without {self.reference}: trained on, and not judged"
