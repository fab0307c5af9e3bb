"""CAMPUS: several sorted orders of the same rows, and the student's perplexity chooses which to follow next."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
from curricle.schemas.common.config import option
from curricle.schemas.common.errors import UserError
from curricle.train.curricula.base import (
    Candidate,
    Curriculum,
    Decision,
    Probe,
    ProbeResult,
    RewardGap,
    Stage,
    Steps,
    check,
    rng,
)
from curricle.train.curricula.perplexity import Averaging, log_perplexity
from curricle.train.curricula.scope import Reading, cuts
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray

REWARD, ANSWERS = "reward_gap", "generated"  # columns of `curricle reward`
CHOOSE, RESORT, REFRESH = "choose", "resort", "refresh"  # what the student is asked for
SAMPLE, DRAW, PROMPTS = 1, 2, 3  # what random numbers are for, so that two uses never share a stream
PASSES = 3  # to train on a row costs about three times as much as to read it: a backward pass costs two forward passes


@dataclass(eq=False)
class Perspective:
    """One sorted order and how far it has been followed: ``visits`` of the slices between ``cuts`` have been opened.

    ``sign`` is 1 where high values of the column are hard, -1 where low ones are.
    """

    name: str
    rows: Rows
    cuts: list[int]
    sign: int
    visits: int = 0

    @property
    def exhausted(self) -> bool:
        return self.visits == len(self.cuts) - 1

    @property
    def next_slice(self) -> Rows:
        return self.rows[self.cuts[self.visits] : self.cuts[self.visits + 1]]

    @property
    def rest(self) -> Rows:
        return self.rows[self.cuts[self.visits] :]

    @property
    def competence(self) -> float:
        return self.cuts[self.visits] / len(self.rows)

    def advance(self) -> None:
        self.visits += not self.exhausted

    def replace_rest(self, rows: Rows) -> None:
        self.rows = np.concatenate([self.rows[: self.cuts[self.visits]], rows])


@dataclass(frozen=True)
class Campus(Curriculum):
    """Competence-aware multi-perspective curriculum (CAMPUS, arXiv 2509.13790), with every uncertain reading an option.

    Each perspective is the table sorted from easy to hard by one column and cut into ``decisions`` slices by the
    learning scope. The next slice of every perspective is a candidate; the student's perplexity on each decides which
    one is trained on. What is known and what is our reading: docs/methods.md, "CAMPUS".

    Two of the paper's four perspectives follow the student's competence: its loss, and a learned scoring model. When
    the latter is trained, on what and how often is not known. With ``refresh=reward`` it is refitted, on the student's
    states and own answers, as often as the loss is looked at again, and within the same bound of the cost.
    """

    perspectives: tuple[str, ...] = option(
        "score columns, NAME or NAME:high or NAME:low (the hard end)", ("prompt_words", "response_mtld", "loss")
    )
    scope: Reading = option("the curve s(t) that cuts an order into slices", "root")
    s1: float = option("s(1): the share of the first slice", 0.01, above=0, at_most=1)
    p: float = option("p of s(t): the root, or the base of literal_exp", 2.0, at_least=1)
    decisions: int = option("T: into how many slices an order is cut", 100, at_least=1, at_most=1_000_000)
    pointer: Literal["own", "shared"] = option("each perspective counts its own visits, or all share one count", "own")
    seen: Literal["keep", "skip"] = option("leave rows in that were trained on through another perspective", "keep")
    stop: Literal["budget", "decisions", "coverage", "exhaustion"] = option(
        "budget alone (exhausted orders start again), or also: after T decisions, when every row has been seen, when "
        "every order is exhausted",
        "budget",
    )
    averaging: Averaging = option("how the perplexity of a candidate is averaged", "sample_mean")
    temperature: float = option(
        "0 takes the lowest perplexity; above, draw with softmax(-log perplexity / temperature), an extension",
        0.0,
        at_least=0,
    )
    probe_rows: int = option("ask about a seeded sample of so many rows a candidate; 0: all", 16, at_least=0)
    probe_cost: float = option(
        "the share of the training's cost that choosing may take; until it allows, the last choice stands; 0: any",
        0.05,
        at_least=0,
    )
    competence_aware: tuple[str, ...] = option(
        "perspectives that are sorted again by the student's loss as it learns", ("loss",)
    )
    resort_every: int = option(
        "sort what is left again after so many visits; 0: as often as resort_epochs allows", 0, at_least=0
    )
    resort_epochs: float = option(
        "forward passes that sorting again may cost in one pass over the orders, in epochs; 0: never",
        0.0,
        at_least=0,
    )
    refresh: Literal["loss", "reward"] = option(
        f"reward: {REWARD} is competence-aware too, by a reward that is fitted again on the student's own answers",
        "loss",
    )
    refresh_rows: int = option(
        f"the student answers a seeded sample of so many prompts, and column {ANSWERS} stands for the others; 0: all",
        0,
        at_least=0,
    )
    refresh_tokens: int = option("tokens after which an answer of the student is cut", 256, at_least=1, at_most=2**20)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.perspectives), "no perspectives", "name at least one score column")
        again = "resort_every" if self.resort_every else "refresh" if self.refresh == "reward" else ""
        check(
            not again or self.resort_epochs > 0, f"{again} without resort_epochs", "give resort_epochs, 1 for one epoch"
        )

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        perspectives = {each.name: each for each in self._perspectives(table, seed)}
        if self.refresh == "reward":
            check(REWARD in perspectives, f"{REWARD} is no perspective", "name it; `curricle reward` writes the column")
            answers = not self.refresh_rows or ANSWERS in table.columns
            check(answers, f"there is no column {ANSWERS}", "leave out refresh_rows, or add it with `curricle reward`")
        aware = [each for name, each in perspectives.items() if name in self.competence_aware or self._rewarded(each)]
        period = self.resort_every or self._period(aware, len(table))
        nobody = np.ones(len(table), bool)  # rows that no perspective holds count as seen
        for each in perspectives.values():
            nobody[each.rows] = False
        visited, forwarded = nobody.copy(), 0
        choice, trained, probed = "", 0, 0
        for stage in count(1):
            while not (candidates := self._candidates(perspectives.values(), visited)):
                if self.stop != "budget":
                    return
                for each in perspectives.values():
                    each.visits = 0
                visited, forwarded = nobody.copy() if visited.all() else visited, 0
            probe = Probe(self._sampled(candidates, seed, stage), purpose=CHOOSE)
            cost = sum(len(each.rows) for each in probe.candidates)
            if len(candidates) == 1:
                (choice,) = candidates
            elif choice not in candidates or not self.probe_cost or probed + cost <= self.probe_cost * PASSES * trained:
                decision = yield probe
                choice, probed = decision.choice, probed + cost
            trained += len(candidates[choice])
            chosen, rows = perspectives[choice], candidates[choice]
            for each in perspectives.values() if self.pointer == "shared" else [chosen]:
                each.advance()
            visited[rows] = True
            yield Stage(rows, choice, {name: each.competence for name, each in perspectives.items()})
            if (self.stop == "decisions" and stage == self.decisions) or (self.stop == "coverage" and visited.all()):
                return
            rest = chosen.rest
            due = chosen in aware and period and chosen.visits % period == 0
            passes = self._passes(chosen, len(rest))
            if due and len(rest) > 1 and forwarded + passes <= self.resort_epochs * len(table):
                forwarded += passes
                decision = yield self._again(chosen, seed, stage)
                difficulty = np.full(len(table), np.nan)
                difficulty[rest] = decision.scores * chosen.sign
                unscored = rest[np.isnan(decision.scores)]  # they stay last, in the order that they had
                chosen.replace_rest(np.concatenate([table.sort(difficulty, seed), unscored]))

    def columns(self) -> tuple[str, ...]:
        generated = self.refresh == "reward" and self.refresh_rows > 0
        return (*self.perspectives, *([ANSWERS] if generated else []))

    def decide(self, probe: Probe, result: ProbeResult, seed: int) -> Decision:
        for candidate, nll, tokens in zip(probe.candidates, result.nll, result.tokens, strict=True):
            bad = candidate.rows[(tokens > 0) & ~np.isfinite(nll)]
            if len(bad):
                raise UserError(
                    f"the student's loss is not finite on {len(bad)} rows, the first of them row {bad[0]}",
                    remedy="lower the learning rate, or look at these rows; the last checkpoint is whole",
                )
        logs = tuple(
            log_perplexity(nll, tokens, self.averaging) for nll, tokens in zip(result.nll, result.tokens, strict=True)
        )
        choice, scores = None, result.values
        if probe.purpose == CHOOSE:
            choice = probe.candidates[self._choose(logs, rng(seed, DRAW, probe.index))].name
        elif probe.purpose == RESORT:
            nll, tokens = result.nll[0], result.tokens[0]
            scores = np.divide(nll, tokens, out=np.full(len(nll), np.nan), where=tokens > 0)
        return Decision.of(probe, result, choice, scores, logs)

    def _choose(self, logs: Sequence[float | None], random: np.random.Generator) -> int:
        """The index of the candidate to take; one without a scored token only if no candidate has any."""
        costs = np.array([np.inf if log is None else log for log in logs])
        if self.temperature == 0 or np.isinf(costs.min()):
            return int(costs.argmin())  # the first of equals
        weights = np.exp((costs.min() - costs) / self.temperature)
        drawn = np.searchsorted(np.cumsum(weights), random.random() * weights.sum(), side="right")
        return min(int(drawn), len(logs) - 1)

    def _perspectives(self, table: Table, seed: int) -> list[Perspective]:
        perspectives = []
        for column in self.perspectives:
            name, hard = table.direction(column)
            rows = table.order(column, seed)
            where = cuts(len(rows), self.decisions, self.scope, self.s1, self.p)
            perspectives.append(Perspective(name, rows, where, -1 if hard == "low" else 1))
        names = [each.name for each in perspectives]
        check(len(set(names)) == len(names), f"perspectives {', '.join(names)} repeat", "name each column once")
        return perspectives

    def _candidates(self, perspectives: Iterable[Perspective], visited: NDArray[np.bool_]) -> dict[str, Rows]:
        """The next slice of each perspective that holds rows; none if every order is exhausted.

        Empty slices are passed over: each perspective's own, or with a shared pointer where all are empty.
        """
        candidates: dict[str, Rows] = {}
        while not candidates and not all(each.exhausted for each in perspectives):
            for each in perspectives:
                while not each.exhausted and each.name not in candidates:
                    rows = each.next_slice
                    rows = rows[~visited[rows]] if self.seen == "skip" else rows
                    if len(rows):
                        candidates[each.name] = rows
                    elif self.pointer == "own":
                        each.advance()
                    else:
                        break
            if not candidates and self.pointer == "shared":
                for each in perspectives:
                    each.advance()
        return candidates

    def _sampled(self, candidates: Mapping[str, Rows], seed: int, stage: int) -> tuple[Candidate, ...]:
        """What the student is asked about: all rows, or a seeded sample of each candidate's, in their order."""
        sample = []
        for index, (name, rows) in enumerate(candidates.items()):
            if 0 < self.probe_rows < len(rows):
                random = rng(seed, SAMPLE, stage, index)
                rows = rows[np.sort(random.choice(len(rows), self.probe_rows, replace=False))]
            sample.append(Candidate(name, rows))
        return tuple(sample)

    def _rewarded(self, perspective: Perspective) -> bool:
        return self.refresh == "reward" and perspective.name == REWARD

    def _passes(self, perspective: Perspective, rows: int) -> int:
        """Forward passes that sorting so many rows again takes. An answer costs about one as it is drawn, and one as it
        is read; so does reading the reference."""
        if not self._rewarded(perspective):
            return rows
        return 2 * rows + (min(self.refresh_rows, rows) or rows)

    def _again(self, chosen: Perspective, seed: int, stage: int) -> Probe:
        """What the student is asked to sort the rest of an order again."""
        rest = Candidate(chosen.name, chosen.rest)
        if not self._rewarded(chosen):
            return Probe((rest,), purpose=RESORT)
        rows = rest.rows
        if 0 < self.refresh_rows < len(rows):
            random = rng(seed, PROMPTS, stage)
            rows = rows[np.sort(random.choice(len(rows), self.refresh_rows, replace=False))]
        return Probe((rest, Candidate(ANSWERS, rows)), RewardGap(self.refresh_tokens), REFRESH)

    def _period(self, aware: Sequence[Perspective], rows: int) -> int:
        """The fewest visits between two sorts that keep a whole pass within ``resort_epochs``; 0: never."""
        for period in range(1, self.decisions):
            forwarded = sum(
                self._passes(each, len(each.rows) - cut) for each in aware for cut in each.cuts[period:-1:period]
            )
            if forwarded <= self.resort_epochs * rows:
                return period
        return 0
