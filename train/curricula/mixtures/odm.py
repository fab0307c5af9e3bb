"""ODM, online data mixing (Albalak et al. 2023, arXiv 2312.02406): a bandit whose reward is the training loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

from curricle.schemas.common.config import option
from curricle.train.curricula.mixtures.adaptive import AdaptiveMixture, DomainLosses, Rule
from curricle.train.data.domains import Domains
from curricle.train.data.table import Table


def exploration(count: int, t: int) -> float:
    """E_t = min(1/K, sqrt(ln K / (K t))) for K domains at turn t = 1, 2, … (Algorithm 1); E_0 = 1/K."""
    return min(1 / count, sqrt(log(count) / (count * t))) if t else 1 / count


def probabilities(rewards: Sequence[float], t: int) -> list[float]:
    """pi_t(i) = (1 - K E_t) exp(E_{t-1} R_i) / sum_j exp(E_{t-1} R_j) + E_t (Algorithm 1)."""
    count, scale, floor = len(rewards), exploration(len(rewards), t - 1), exploration(len(rewards), t)
    powers = [exp(scale * (reward - max(rewards))) for reward in rewards]
    return [(1 - count * floor) * power / sum(powers) + floor for power in powers]


class Exp3(Rule):
    """The state of ODM. ``rewards``: R_i, 0 at first; turn ``t`` is the next one, from 1."""

    def __init__(self, count: int, memory: float, warmup: int) -> None:
        self.rewards, self.t = [0.0] * count, 1
        self._memory, self._warmup = memory, warmup
        self.weights = probabilities(self.rewards, 1)

    def learn(self, losses: DomainLosses) -> None:
        self.update(losses.by_domain(len(self.rewards)))

    def update(self, losses: Sequence[float | None]) -> None:
        """R_i <- a R_i + (1 - a) loss_i / pi_t(i) for the domains that were trained on (Algorithm 1), and t + 1."""
        if self._warmup:
            self._warmup -= 1
            return
        for index, loss in enumerate(losses):
            if loss is not None:
                estimate = loss / self.weights[index]
                self.rewards[index] = self._memory * self.rewards[index] + (1 - self._memory) * estimate
        self.t += 1
        self.weights = probabilities(self.rewards, self.t)


@dataclass(frozen=True)
class Odm(AdaptiveMixture):
    """Online data mixing (ODM, arXiv 2312.02406): the higher the training loss of a domain, the more of it comes next.

    The weights are those of the paper's Algorithm 1; rows are taken in proportion to them instead of drawn, and a
    domain's loss is the mean over the tokens of its rows since the last update. What is our reading: docs/methods.md.
    """

    memory: float = option("a: weight of earlier rewards in the moving average", 0.9, at_least=0, below=1)
    warmup: int = option("updates that are passed over at first, with equal weights", 0, at_least=0)

    def rule(self, table: Table, domains: Domains) -> Exp3:
        return Exp3(len(domains.names), self.memory, self.warmup)

    def rule_in_words(self, batches: str) -> str:
        return f"ODM: after every {batches} the weights follow the training losses of the domains, the higher the more"
