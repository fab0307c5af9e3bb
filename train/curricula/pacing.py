"""Pacing functions: how much of a sorted order is visible at a step, and the curriculum that draws from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from math import e, exp, floor, log
from typing import Literal

from curricle.schemas.common.config import option
from curricle.train.curricula.base import Curriculum, Stage, Steps, check, rng
from curricle.train.data.table import Rows, Table

Shape = Literal["linear", "quad", "root", "step", "exp", "log"]
Function = Literal["linear", "quad", "root", "step", "exp", "log", "fixed_linear", "fixed_root", "fixed_discrete"]


def visible_rows(shape: Shape, x: float, a: float, b: float, n: float) -> float:
    """Rows visible at step ``x`` ("When Do Curricula Work?", arXiv 2012.03107), not capped: clamp it to [1, n].

    ``a``: the step at which all ``n`` rows are visible; ``b``: rows visible at first. (The paper's a*T and b*N.)
    """
    curves: dict[Shape, Callable[[], float]] = {
        "linear": lambda: b + (n - b) * x / a,
        "quad": lambda: b + (n - b) * (x / a) ** 2,
        "root": lambda: b + (n - b) * (x / a) ** 0.5,
        "step": lambda: n * floor(x / a) + b,
        "exp": lambda: b + (n - b) * (exp(10 * x / a) - 1) / (exp(10) - 1),
        "log": lambda: b + (n - b) * (1 + 0.1 * log(x / a + e**-10)),
    }
    return curves[shape]()


def fixed_root(step: int, total: int, low: int, high: int, multiple: int, degree: float = 2) -> int:
    """DeepSpeed's ``fixed_root`` difficulty at a step; ``degree=1`` is its ``fixed_linear``.

    floor((step / total)^(1 / degree) * (high - low) + low), rounded down to a ``multiple``, but not below the first
    multiple that reaches ``low`` and not above ``high`` (deepspeedai/DeepSpeed, data_pipeline curriculum scheduler).
    """
    difficulty = floor((step / total) ** (1 / degree) * (high - low) + low)
    return min(max(difficulty - difficulty % multiple, -(-low // multiple) * multiple), high)


def fixed_discrete(step: int, difficulties: Sequence[int], max_steps: Sequence[int]) -> int:
    """DeepSpeed's ``fixed_discrete``: ``difficulties[i]`` while step <= ``max_steps[i]``, the last one for ever."""
    return next((d for d, last in zip(difficulties, max_steps, strict=False) if step <= last), difficulties[-1])


@dataclass(frozen=True)
class Paced(Curriculum):
    """Each step draws its batch uniformly, without repeats inside it, from the rows that a pacing function shows.

    DeepSpeed's functions pace the percentile of the order, from ``start`` to 100 per cent. ``random`` order with the
    same pacing is the control that the paper asks for. A pool smaller than a batch is widened to a batch.
    """

    by: str = option("score column, NAME or NAME:high or NAME:low (the hard end)", "loss")
    order: Literal["easy_to_hard", "hard_to_easy", "random"] = option("the order that is opened", "easy_to_hard")
    function: Function = option("six curves of arXiv 2012.03107, or DeepSpeed's fixed_*", "linear")
    start: float = option("share of the rows that is visible at first", 0.1, above=0, at_most=1)
    length: float = option("epochs until all rows are visible", 1.0, above=0, at_most=1e9)
    degree: float = option("root degree of fixed_root", 2.0, above=0)
    multiple: int = option(
        "fixed_linear and fixed_root move by multiples of so many per cent", 1, at_least=1, at_most=100
    )
    percentiles: tuple[int, ...] = option(
        "fixed_discrete: per cent of the rows that is visible in each phase", (), at_least=0, at_most=100
    )
    last_steps: tuple[int, ...] = option("fixed_discrete: the last step of each phase but the last", (), at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        phases, ends = len(self.percentiles), len(self.last_steps)
        good = self.function != "fixed_discrete" or phases == ends + 1
        check(good, f"{phases} percentiles and {ends} last steps", "give one percentile more than last steps")
        rising = all(first < last for first, last in pairwise(self.last_steps))
        check(rising, f"last_steps {self.last_steps} do not rise", "give each phase a later last step")

    def columns(self) -> tuple[str, ...]:
        return (self.by,)

    def steps(self, table: Table, seed: int, batch: int) -> Steps:
        rows = table.order(self.by, seed)
        if self.order == "hard_to_easy":
            rows = rows[::-1]
        elif self.order == "random":
            rows = rng(seed, 0).permutation(rows)
        total = max(1, round(self.length * len(rows) / batch))
        for step in count():
            share = self.share(step, total)
            yield Stage(draw(rows, share, batch, seed, step), competence={self.by: share})

    def share(self, step: int, total: int) -> float:
        """The share of the order that is visible at a step, in [0, 1]; 1 from step ``total`` on."""
        if self.function == "fixed_discrete":
            share = fixed_discrete(step, self.percentiles, self.last_steps) / 100
        elif step >= total:
            share = 1.0
        elif self.function in ("fixed_linear", "fixed_root"):
            degree = 1 if self.function == "fixed_linear" else self.degree
            share = fixed_root(step, total, max(1, round(100 * self.start)), 100, self.multiple, degree) / 100
        else:
            share = visible_rows(self.function, step, total, self.start, 1)  # type: ignore[arg-type]
        return min(1.0, max(0.0, share))


def draw(rows: Rows, share: float, batch: int, seed: int, step: int) -> Rows:
    """A batch drawn uniformly, without repeats, from the first ``share`` of ``rows`` (at least a batch of them)."""
    pool = min(len(rows), max(batch, floor(share * len(rows) + 1e-9)))
    return rows[rng(seed, 1, step).choice(pool, min(batch, pool), replace=False)]
