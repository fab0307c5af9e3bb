"""Skill-it (Chen et al. 2023, arXiv 2307.14430): more of the skills that others, which are not learned yet, rest on."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp
from typing import Literal

import numpy as np
from curricle.schemas.common.config import option
from curricle.schemas.common.errors import UsageError
from curricle.schemas.common.wording import shortened
from curricle.train.curricula.base import Candidate, Decision, Probe, ProbeResult, Steps, check, rng
from curricle.train.curricula.mixtures.adaptive import AdaptiveMixture, DomainLosses, Rule
from curricle.train.curricula.mixtures.mixing import Mixing
from curricle.train.data.domains import Domains
from curricle.train.data.table import Table
from numpy.typing import NDArray

SAMPLE = 7  # what random numbers are for, so that two uses never share a stream
ROUNDS = 10
"""Updates in a pass, where no number of batches says otherwise."""

Graph = NDArray[np.float64]
"""A_ij: how much training on skill i does for skill j; float64 (skills, skills)."""


def mixture(graph: Graph, losses: Sequence[Sequence[float]], eta: float) -> list[float]:
    """p_i ~ exp(eta sum_tau sum_j A_ij L_j(tau)) over the evaluations ``losses`` of the window (Algorithm 1)."""
    powers = [
        eta * sum(float(edge) * loss for round_ in losses for edge, loss in zip(row, round_, strict=True))
        for row in graph
    ]
    weights = [exp(power - max(powers)) for power in powers]
    return [weight / sum(weights) for weight in weights]


def effects(falls: NDArray[np.float64]) -> Graph:
    """The graph from what was measured. ``falls[i, j]``: by which share training on i alone lowered the loss on j.

    An edge is what i does for j as a part of what j does for itself, within [0, 1]; 1 on the diagonal.
    """
    own = np.diag(falls)
    parts = np.divide(falls, own[None, :], out=np.zeros_like(falls), where=own[None, :] > 0)
    graph: Graph = np.clip(parts, 0, 1)
    np.fill_diagonal(graph, 1)
    return graph


class SkillGraph(Rule):
    """The state of Skill-it. ``losses``: those of the last evaluations, of each skill, at most ``window`` of them.

    The first mixture is that of losses of 1, as in Algorithm 1.
    """

    def __init__(self, graph: Graph, eta: float, window: int) -> None:
        self._eta, self._window = eta, window
        self.graph, self.last = graph, [1.0] * len(graph)
        self.losses: list[list[float]] = []
        self.weights = mixture(graph, [self.last], eta)

    def learn(self, losses: DomainLosses) -> None:
        self.update(losses.by_domain(len(self.graph)))

    def update(self, losses: Sequence[float | None]) -> None:
        """The mixture after an evaluation; a skill without a loss keeps the one that it had."""
        self.last = [before if now is None else now for now, before in zip(losses, self.last, strict=True)]
        self.losses = [*self.losses, self.last][-self._window :]
        self.weights = mixture(self.graph, self.losses, self._eta)

    def connect(self, graph: Graph) -> None:
        """Go on with another graph."""
        self.graph = graph
        self.weights = mixture(graph, self.losses or [self.last], self._eta)


@dataclass(frozen=True)
class SkillIt(AdaptiveMixture):
    """Skill-it (arXiv 2307.14430): weights follow the losses of skills, along a graph of which helps which.

    The paper's Algorithm 1, with domains as skills. Without ``graph`` each skill helps itself alone. Its losses are
    those of the training, or with ``losses=held_out`` those on held-out rows of each skill, as in the paper. What fits
    a run of this kind and what does not: docs/methods.md.
    """

    every: int = option(
        f"batches from one update of the weights to the next; 0: so that there are {ROUNDS} in a pass", 0, at_least=0
    )
    eta: float = option("step of the weights", 0.5, above=0, at_most=1e6)
    window: int = option("evaluations that an update looks back at", 3, at_least=1)
    losses: Literal["training", "held_out"] = option(
        "training: of what was trained on since the last update, which costs nothing; held_out: of rows that are held "
        "out, which asks the student",
        "training",
    )
    probe_rows: int = option("losses=held_out: so many rows of each skill at most; 0: all", 64, at_least=0)
    graph: tuple[str, ...] = option(
        "A->B,A->C=0.3: training on A helps B, by 0.5 where nothing is said; estimate: from the held-out losses before "
        "and after a stage of each skill alone; none: each skill alone",
        (),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        estimates, asks = self.graph == ("estimate",), self.losses == "held_out"
        check(not estimates or asks, "graph=estimate with losses=training", "give losses=held_out, and hold rows out")

    @property
    def waits(self) -> bool:
        return self.losses == "training"

    def batches(self, table: Table, batch: int) -> int:
        return self.every or max(1, -(-self.epoch_rows(table) // (batch * ROUNDS)))

    def rule(self, table: Table, domains: Domains) -> SkillGraph:
        graph = np.eye(len(domains.names))
        for edge in self.graph if self.graph != ("estimate",) else ():
            parsed = re.fullmatch(r"(.+?)->(.+?)(?:=([^=]*))?", edge, re.DOTALL)
            check(parsed is not None, f"graph has {edge!r}", "write FROM->TO, or FROM->TO=WEIGHT")
            assert parsed
            graph[_index(domains, parsed[1]), _index(domains, parsed[2])] = _weight(edge, parsed[3])
        return SkillGraph(graph, self.eta, self.window)

    def begin(self, table: Table, domains: Domains, seed: int, rule: SkillGraph, mixing: Mixing, size: int) -> Steps:
        if self.losses == "training":
            return
        before = yield from self._evaluate(table, seed, domains)
        if self.graph == ("estimate",):
            falls = np.zeros((len(before), len(before)))
            for skill in range(len(before)):
                alone = np.eye(len(before))[skill].tolist()
                yield from self.train(mixing, domains, alone, size)
                after = yield from self._evaluate(table, seed, domains)
                falls[skill] = (before - after) / before
                before = after
            rule.connect(effects(falls))

    def follow(self, table: Table, domains: Domains, seed: int, rule: SkillGraph, losses: DomainLosses) -> Steps:
        if self.losses == "training":
            rule.learn(losses)
        else:
            rule.update((yield from self._evaluate(table, seed, domains)).tolist())

    def _evaluate(self, table: Table, seed: int, domains: Domains):  # type: ignore[no-untyped-def]
        answer = yield Probe(self._held_out(table, seed, domains), purpose="skills")
        return answer.scores

    def _held_out(self, table: Table, seed: int, domains: Domains) -> tuple[Candidate, ...]:
        """Held-out rows of each skill."""
        theirs = Domains.of(table.held_out, self.category)
        skills = Domains.fitting(theirs.names, domains.names)[theirs.codes]
        candidates = []
        for index, name in enumerate(domains.names):
            rows = np.flatnonzero(skills == index)
            if 0 < self.probe_rows < len(rows):
                rows = np.sort(rng(seed, SAMPLE, index).permutation(rows)[: self.probe_rows])
            candidates.append(Candidate(name, rows, held_out=True))
        if empty := [each.name for each in candidates if not len(each.rows)]:
            raise UsageError(
                f"no row of {shortened(empty)} is held out, so that its loss would not be known",
                where=table.held_out.where,
                remedy="raise --eval.rows, name a table that has them as --eval.data, or give losses=training",
            )
        return tuple(candidates)

    def decide(self, probe: Probe, result: ProbeResult, seed: int) -> Decision:
        means = [
            DomainLosses(each.rows, np.zeros_like(each.rows), nll, tokens).mean(nll, 0)
            for each, nll, tokens in zip(probe.candidates, result.nll, result.tokens, strict=True)
        ]
        if silent := [each.name for each, mean in zip(probe.candidates, means, strict=True) if mean is None]:
            raise UsageError(
                f"no held-out row of {shortened(silent)} has a token to score",
                remedy="hold other rows out, raise --max-length, or give losses=training",
            )
        return Decision.of(probe, result, scores=np.array(means, np.float64))

    def rule_in_words(self, batches: str) -> str:
        graph = {(): "each skill alone", ("estimate",): "along a graph that its first stages estimate"}
        whose = "held-out" if self.losses == "held_out" else "training"
        along = graph.get(self.graph, f"along {', '.join(self.graph)}")
        return f"Skill-it: after every {batches} the weights follow the {whose} losses of the skills, {along}"

    def remarks(self, table: Table, batch: int) -> Iterator[str]:
        yield from super().remarks(table, batch)
        if self.losses == "training" and self.probe_rows != SkillIt.probe_rows:
            yield "probe_rows has no use with losses=training"


def _index(domains: Domains, name: str) -> int:
    if name not in domains.names:
        raise UsageError(
            f"graph names {name!r}, which is no domain",
            remedy=f"there are: {shortened(list(map(repr, domains.names)))}",
        )
    return domains.names.index(name)


def _weight(edge: str, text: str | None) -> float:
    try:
        weight = float(text) if text is not None else 0.5
    except ValueError:
        weight = -1.0
    check(0 <= weight <= 1, f"graph has {edge!r}", "give a weight from 0 to 1")
    return weight
