"""What an order came to: how far it was opened, who was chosen, and which rows were trained on how often."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from curricle.schemas.common.wording import counted, shortened
from curricle.train.curricula.base import Calibration, Stage
from curricle.train.data.domains import Domains
from curricle.train.data.table import Rows, Table
from numpy.typing import NDArray

OPENED = 0.95
"""An order that is opened to less is worth a warning."""
HARDLY = 0.25
"""A tenth of an order that is trained on less than so much of the mean is worth a warning."""
ENOUGH = 20
"""Visits that a tenth may be expected to get before it is judged: fewer may miss it by chance."""


@dataclass(frozen=True)
class Estimates:
    """All checks of estimates of the student's loss: ``agreed`` of ``checks`` chose as the student did; means of the
    rank correlation (None if none has one) and of the bias, in nats per token.
    """

    checks: int
    agreed: int
    rho: float | None
    bias: float

    @classmethod
    def of(cls, calibrations: Sequence[Calibration]) -> "Estimates | None":
        if not calibrations:
            return None
        rhos = [it.rho for it in calibrations if it.rho is not None]
        return cls(
            len(calibrations),
            sum(it.agreed for it in calibrations),
            float(np.mean(rhos)) if rhos else None,
            float(np.mean([it.bias for it in calibrations])),
        )


@dataclass(frozen=True)
class Summary:
    """``competence``: which share of each order was opened. ``choices``: how many stages chose each perspective.

    ``mean``: visits of a row. ``tenths``: for each column that sorts the rows, visits of a row in each tenth of them,
    from easy to hard. ``rows``: of a tenth, the fewest. ``domains``: the rows and the visits of each, where the order
    has to do with any. ``weights``: of a mixture, the mean over its stages and the last one.
    """

    competence: Mapping[str, float]
    choices: Mapping[str, int]
    mean: float
    tenths: Mapping[str, Sequence[float]]
    rows: int
    estimates: Estimates | None
    domains: Mapping[str, Sequence[int]] = field(default_factory=dict)
    weights: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def short(self) -> Iterator[str]:
        """A line each, but for the tenths."""
        if self.competence:
            yield "opened: " + ", ".join(f"{name} to {share:.2f}" for name, share in self.competence.items())
        if len(self.choices) > 1:
            yield "chosen: " + ", ".join(
                f"{name} in {counted(stages, 'stage')}" for name, stages in self.choices.items()
            )
        if it := self.estimates:
            rho = "" if it.rho is None else f", rank correlation {it.rho:.2f}"
            agreed = f"chose as the student did in {it.agreed} of {counted(it.checks, 'check')}"
            yield f"estimates: {agreed}{rho}, bias {it.bias:+.2f} nats"
        if any(mean != last for mean, last in self.weights.values()):
            weights = [f"{name} {mean:.3f}, {last:.3f}" for name, (mean, last) in self.weights.items()]
            yield f"weights, on average and at the end: {shortened(weights, '; ')}"
        if self.domains:
            total = max(1, sum(visits for _, visits in self.domains.values()))
            exposure = [
                f"{name} {visits / total:.1%}, {visits / max(1, rows):.2f} visits of each of {counted(rows, 'row')}"
                for name, (rows, visits) in self.domains.items()
            ]
            yield f"exposure: {shortened(exposure, '; ')}"

    def lines(self) -> Iterator[str]:
        yield from self.short()
        for name, visits in self.tenths.items():
            yield f"visits of a row by tenth of {name}, from easy to hard: " + " ".join(f"{it:.2f}" for it in visits)

    def warnings(self) -> Iterator[str]:
        if never := [name for name, (rows, visits) in self.domains.items() if rows and not visits]:
            yield f"no row of {shortened(never)} was trained on"
        for name, share in self.competence.items():
            if share < OPENED:
                yield f"the order by {name} was opened to {share:.2f} only: a larger budget opens it further"
        for name, visits in self.tenths.items():
            for tenth, value in enumerate(visits, 1):
                if self.mean * self.rows >= ENOUGH and value < HARDLY * self.mean:
                    yield (
                        f"tenth {tenth} of 10 by {name}, from easy to hard, was hardly trained on: "
                        f"{value:.2f} visits of a row, where the mean is {self.mean:.2f}"
                    )


class Tally:
    """Counts along an order. ``visits``: of each row of the table, int64 (rows,)."""

    def __init__(self, rows: int) -> None:
        self.visits: NDArray[np.int64] = np.zeros(rows, np.int64)
        self._choices: Counter[str] = Counter()
        self._calibrations: list[Calibration] = []
        self._competence: dict[str, float] = {}
        self._weights: dict[str, float] = {}  # times rows
        self._last: Mapping[str, float] = {}

    def stage(self, stage: Stage) -> None:
        """A stage begins."""
        self._choices.update([stage.choice] if stage.choice else [])
        self._calibrations += [stage.calibration] if stage.calibration else []
        self._competence |= {
            name: max(share, self._competence.get(name, 0)) for name, share in stage.competence.items()
        }
        self._last = stage.weights or self._last
        for name, weight in stage.weights.items():
            self._weights[name] = self._weights.get(name, 0) + weight * len(stage.rows)

    def batch(self, rows: Rows) -> None:
        """A batch is trained on."""
        np.add.at(self.visits, rows, 1)

    def summary(self, table: Table, columns: Sequence[str], seed: int, domains: Domains | None = None) -> Summary:
        """``columns``: those whose tenths are looked at. ``domains``: those whose exposure is."""
        total = sum(self._weights.values()) or 1
        orders = {column: table.order(column, seed) for column in columns}
        return Summary(
            self._competence,
            dict(self._choices),
            float(self.visits.mean()),
            {
                column: [float(self.visits[part].mean()) if len(part) else 0.0 for part in np.array_split(order, 10)]
                for column, order in orders.items()
            },
            min((len(order) // 10 for order in orders.values()), default=0),
            Estimates.of(self._calibrations),
            domains.counts(self.visits) if domains else {},
            {name: (weight / total, self._last.get(name, 0.0)) for name, weight in self._weights.items()},
        )
