"""CAMPUS: several sorted orders of the same rows, and the student's perplexity chooses which to follow next."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, ClassVar, Literal

import numpy as np
from curricle.schemas.common.config import option
from curricle.schemas.common.errors import UserError
from curricle.schemas.common.wording import counted
from curricle.train.curricula.base import (
    Curriculum,
    Decision,
    Probe,
    ProbeResult,
    Stage,
    Steps,
    check,
    rng,
)
from curricle.train.curricula.campus.choosing import (
    CHECK,
    CHOOSE,
    DRAW,
    PASSES,
    Chooser,
    Estimating,
    Exact,
    Sparse,
    draw,
)
from curricle.train.curricula.campus.perplexity import Averaging, log_perplexity
from curricle.train.curricula.campus.perspectives import Orders, Perspective, Pointer, Seen
from curricle.train.curricula.campus.scope import Reading, cuts
from curricle.train.curricula.campus.sorting import ANSWERS, RESORT, Reward, Sorting
from curricle.train.data.table import Table, column_name

REWARD = "reward_gap"  # a column of `curricle reward`
MOST_DECISIONS = 1000
"""Of a round, where their number follows from the table: more would add lines to the journal, and hardly any turn."""


@dataclass(frozen=True)
class Campus(Curriculum):
    """Competence-aware multi-perspective curriculum (CAMPUS, arXiv 2509.13790), with every uncertain reading an option.

    Each perspective is the table sorted from easy to hard by one column and cut into slices by the learning scope. The
    next slice of every perspective is a candidate; the student's perplexity on each decides which one is trained on.
    What is known and what is our reading: docs/methods.md, "CAMPUS".

    By default all perspectives move on together, each row is trained on once an epoch (what is passed over comes back
    in another round), and the student's perplexity is estimated from the losses of the rows that it has just been
    trained on, which cost nothing; the estimates are checked on a few rows that it is asked about.

    Two of the paper's four perspectives follow the student's competence: its loss, and a learned scoring model. When
    the latter is trained, on what and how often is not known. With ``refresh=reward`` it is refitted, on the student's
    states and own answers, within the bound of ``resort_epochs``.
    """

    ABSENT: ClassVar[dict[str, Any]] = {"probe": "sparse"}

    perspectives: tuple[str, ...] = option(
        "score columns, NAME or NAME:high or NAME:low (the hard end)", ("prompt_words", "response_mtld", "loss")
    )
    probe: Literal["free", "sampled", "exact", "sparse"] = option(
        "how the student's perplexity is known: free: estimated from the losses of what was just trained on, and "
        "checked on a few rows at decisions 2, 4, 8, …; sampled: checked at every decision that probe_cost allows; "
        "exact: by asking about every row; sparse: by asking about a sample when probe_cost allows, until then the "
        "last choice stands, as in version 0.1",
        "free",
    )
    scope: Reading = option("the curve s(t) that cuts an order into slices", "root")
    s1: float = option("s(1): the share of the first slice", 0.01, above=0, at_most=1)
    p: float = option("p of s(t): the root, or the base of literal_exp", 2.0, at_least=1)
    decisions: int = option(
        f"T: into how many slices an order is cut; 0: as many as there are batches, {MOST_DECISIONS} at most, each of "
        "whole batches",
        0,
        at_least=0,
        at_most=1_000_000,
    )
    pointer: Pointer = option("each perspective counts its own visits, or all share one count", "shared")
    seen: Seen = option(
        "rows that were trained on through another perspective: once: they are compared, but not trained on again in "
        "an epoch, and rows that are passed over come back in another round; keep: they are trained on again; skip: "
        "they are left out of both",
        "once",
    )
    stop: Literal["budget", "decisions", "coverage", "exhaustion"] = option(
        "budget alone (exhausted orders start again), or also: after T decisions, when every row has been seen (with "
        "seen=once in further rounds, else if one pass over the orders does it), when every order is exhausted",
        "budget",
    )
    averaging: Averaging = option("how the perplexity of a candidate is averaged", "sample_mean")
    temperature: float = option(
        "0 takes the lowest perplexity; above, draw with softmax(-log perplexity / temperature), an extension",
        0.0,
        at_least=0,
    )
    probe_rows: int = option("ask about so many rows of a candidate at most, where not all; 0: all", 16, at_least=0)
    probe_cost: float = option(
        "the share of the training's cost that asking may take, but for probe=exact; 0: any", 0.05, at_least=0
    )
    competence_aware: tuple[str, ...] = option(
        "perspectives that are sorted again by the student's loss as it learns", ("loss",)
    )
    resort_every: int = option(
        "sort what is left again after so many decisions; 0: after 1, 2, 4, 8, …, or with probe=sparse and for "
        "refresh=reward as often as resort_epochs allows",
        0,
        at_least=0,
    )
    resort_epochs: float = option(
        "forward passes that sorting again may cost in one pass over the orders, in epochs, where it asks the student; "
        "0: any with probe=exact, else none",
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
        sparse = self.probe == "sparse" and self.resort_every
        again = "resort_every" if sparse else "refresh" if self.refresh == "reward" else ""
        check(
            not again or self.resort_epochs > 0, f"{again} without resort_epochs", "give resort_epochs, 1 for one epoch"
        )

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        orders = self._orders(table, seed, batch)
        estimate = self._estimate(table, seed)
        chooser: Chooser = estimate or (
            Sparse(self.probe_rows, self.probe_cost, seed) if self.probe == "sparse" else Exact()
        )
        sorting = self._sorting(orders, table, seed, estimate)
        waiting = np.empty(0, np.int64)  # rows that are chosen, and too few for a batch
        last = orders.slices
        for decision in count(1):
            while not (candidates := orders.candidates()):
                if self.stop != "budget" and (self.stop, self.seen) != ("coverage", "once"):
                    if len(waiting):
                        yield Stage(waiting, None, orders.competence)
                    return
                orders.begin_again()
                yield from sorting.begin_again(decision)
            choice = yield from chooser.choose(candidates, decision)
            rows = np.concatenate([waiting, orders.take(choice)])
            covered = bool(orders.visited.all())
            ends = (self.stop == "decisions" and decision == last) or (self.stop == "coverage" and covered)
            over = ends or (self.seen != "keep" and covered)
            full = len(rows) if over or self.probe == "sparse" else len(rows) // batch * batch
            rows, waiting = rows[:full], rows[full:]
            if len(rows):
                calibration = estimate.take_calibration() if estimate else None
                stage = Stage(rows, choice, orders.competence, outcome=chooser.outcomes, calibration=calibration)
                chooser.learn(rows, (yield stage))
            if ends:
                return
            yield from sorting.after(choice, decision)

    def describe(self, table: Table, batch: int) -> str:
        sizes = np.diff(self._cuts(batch, len(table), len(table), 1.0))
        sizes = sizes[sizes > 0]
        names = ", ".join(map(column_name, self.perspectives))
        once = {
            "once": "each row once an epoch, and what is passed over in further rounds",
            "skip": "each row once an epoch",
            "keep": "a row as often as its slices are chosen, or never",
        }
        knowledge = {
            "free": "estimated from the losses of the training itself, and checked on a few rows of each candidate, "
            f"for {self._bound()} of the training's FLOPs",
            "sampled": f"estimated from the losses of the training itself, and checked at every decision that "
            f"{self._bound()} of the training's FLOPs allows",
            "exact": f"asked about every row, for about {len(self.perspectives) / PASSES:.0%} of the training's FLOPs",
            "sparse": f"asked about a sample when {self._bound()} of the training's FLOPs allows",
        }
        return (
            f"{counted(len(sizes), 'decision')} between the orders by {names}, each over {sizes.min():,} to "
            f"{sizes.max():,} rows; {once[self.seen]}; the student's perplexity is {knowledge[self.probe]}"
        )

    def _bound(self) -> str:
        return f"at most {self.probe_cost:.1%}" if self.probe_cost else "any share"

    def remarks(self, table: Table, batch: int) -> Iterator[str]:
        names = [column_name(column) for column in self.perspectives]
        if len(names) == 1:
            yield f"{names[0]} is the only perspective: there is nothing to choose"
        if absent := [name for name in self.competence_aware if name not in names and name != "loss"]:
            yield f"competence_aware names {', '.join(absent)}, and no perspective is called so"
        reward, exact = self.refresh == "reward", self.probe == "exact"
        free = self.probe in ("free", "sampled") and not reward
        for options, idle, why in (
            (("probe_rows", "probe_cost"), exact, "with probe=exact, which asks about every row"),
            (("refresh_rows", "refresh_tokens"), not reward, "without refresh=reward"),
            (("resort_epochs",), free, f"with probe={self.probe}, where sorting again asks nobody"),
        ):
            given = [name for name in options if getattr(self, name) != getattr(Campus, name)]
            if idle and given:
                yield f"{', '.join(given)}: of no use {why}"
        if reward:
            orders = self._orders(table, 0, batch)
            yield from self._sorting(orders, table, 0, self._estimate(table, 0)).remarks(self.pointer == "own")

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
            choice = probe.candidates[draw(logs, self.temperature, rng(seed, DRAW, probe.index))].name
        elif probe.purpose in (CHECK, RESORT):
            nll, tokens = np.concatenate(result.nll), np.concatenate(result.tokens)
            scores = np.divide(nll, tokens, out=np.full(len(nll), np.nan), where=tokens > 0)
        return Decision.of(probe, result, choice, scores, logs)

    def _orders(self, table: Table, seed: int, batch: int) -> Orders:
        perspectives = []
        for column in self.perspectives:
            name, hard = table.direction(column)
            perspectives.append(Perspective(name, table.order(column, seed), -1 if hard == "low" else 1))
        names = [each.name for each in perspectives]
        check(len(set(names)) == len(names), f"perspectives {', '.join(names)} repeat", "name each column once")
        return Orders(perspectives, len(table), self.pointer, self.seen, partial(self._cuts, batch))

    def _cuts(self, batch: int, rows: int, longest: int, share: float) -> list[int]:
        """Where an order of so many rows is cut, see ``Orders``."""
        if self.decisions:
            return cuts(rows, max(1, round(self.decisions * share)), self.scope, self.s1, self.p)
        total = min(-(-longest // batch), MOST_DECISIONS)
        return [min(rows, batch * end) for end in cuts(-(-rows // batch), total, self.scope, self.s1, self.p)]

    def _estimate(self, table: Table, seed: int) -> Estimating | None:
        if self.probe not in ("free", "sampled"):
            return None
        return Estimating(
            table,
            self.perspectives,
            self.averaging,
            self.temperature,
            always=self.probe == "sampled",
            sample=self.probe_rows,
            cost=self.probe_cost,
            seed=seed,
        )

    def _sorting(self, orders: Orders, table: Table, seed: int, estimate: Estimating | None) -> Sorting:
        reward = Reward(REWARD, self.refresh_rows, self.refresh_tokens) if self.refresh == "reward" else None
        if reward:
            named = REWARD in orders.by_name
            check(named, f"{REWARD} is no perspective", "name it; `curricle reward` writes the column")
            answers = not self.refresh_rows or ANSWERS in table.columns
            check(answers, f"there is no column {ANSWERS}", "leave out refresh_rows, or add it with `curricle reward`")
        sparse = self.probe == "sparse"
        epochs = self.resort_epochs if sparse or reward or self.resort_epochs else None
        return Sorting(orders, table, seed, self.competence_aware, self.resort_every, epochs, sparse, reward, estimate)
