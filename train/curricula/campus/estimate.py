"""What the student's loss on any row is now, from its losses on the rows that it was trained on, which are free.

The stored loss of a proxy is the first guess. By how much the student's own losses differ from it is fitted by a ridge
regression on the scores of those rows, and the fit is added to the guess of every row. Late losses count most, those of
step t with weight t², so that about the last third of the steps decides, and one running sum is enough.

For example, a table of three rows with a stored loss of 1, 2 and 4 nats and no other score. At step 1 the student has
0.5 on the first and 1.5 on the second, both 0.5 less than stored; the constant of the fit is -0.5, so that the third
row is expected to have 3.5. At step 2, when it is trained on, it has 3, which is 1 less. The constant is now the
weighted mean (1 · -0.5 + 1 · -0.5 + 4 · -1) / 6 = -0.83: the first row is expected to have 0.5 - 0.33 = 0.17, its own
loss moved by as much as the fit has moved since. (The stored loss takes part with a coefficient too, which ridge holds
back by ``RIDGE`` rows' worth of evidence for zero. The example leaves it out.)

The scores: the stored loss itself, since what is hard falls furthest; how short the response is, since a loss is a mean
over tokens, and what a student learns once for a response (how one begins, that it ends) counts for 1 / tokens of it;
and the ranks of the other columns.

An order rests on these numbers, and has to come out of a journal bit for bit. So scores are multiples of 1 / ``UNIT``,
losses of 1 / ``NAT``, coefficients of 1 / ``COEFFICIENT``; the sums between them and the solution are exact.
What is guaranteed: equal observations give equal predictions, on any machine, and in any order within a step as long
as no row comes twice in it (the later one counts). What is very likely, and no more: observations that differ in their
last bits, as those of one process and of two do, give the same coefficients, because the difference would have to
straddle the middle between two multiples.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from curricle.train.data.table import Rows, Table, column_name
from numpy.typing import NDArray

NAT = 1 << 20
"""Units of a loss in a nat: finer than what a student can know, coarse enough for 32 bits."""
UNIT = 1 << 10
"""Units of a feature in 1; features run from -1 to 1, that of the stored loss a little further."""
COEFFICIENT = 1 << 6
"""Units of a coefficient in a nat."""
RECENCY = 2
"""The power of the step with which its losses count."""
RIDGE = 4
"""How many rows of the latest step are worth as much as what says that a coefficient is 0."""
HIGHEST = 1000
"""Nats per token at which a loss is cut, so that no outlier leaves 32 bits."""
BLOCK = 1 << 19
"""Rows whose moments are summed at once: so many stay within 64 bits."""
SHORT = 16
"""Response tokens of a row that is half as short as a row can be."""


class LossEstimate:
    """The student's mean loss on each row of a table, in nats per response token, by what is known of it so far."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        """``columns``: columns of numbers that say something of a row, NAME or NAME:high or NAME:low.

        The table's ``loss`` and ``response_tokens`` are used where it has them. UsageError for a column that is absent
        or holds no numbers.
        """
        has = table.columns
        loss = table.numbers("loss") if "loss" in has else np.zeros(len(table))
        scored = np.sort(loss[~np.isnan(loss)])
        low, middle, high = (scored[len(scored) * share // 100] if len(scored) else 0.0 for share in (5, 50, 95))
        self._guess = _units(np.where(np.isnan(loss), middle, loss))
        features = [np.full(len(table), UNIT, np.int16), _scaled(self._guess, *_units(np.array([low, middle, high])))]
        if "response_tokens" in has:
            features.append(_shortness(table.numbers("response_tokens")))
        features += [_ranks(table.numbers(name)) for name in dict.fromkeys(map(column_name, columns)) if name != "loss"]
        self._features = np.stack(features)
        size = len(self._features)
        self._moments = np.zeros((size, size + 1), object)  # of Python's whole numbers, which have no bound
        self._coefficients = [0] * size
        self._step = 0
        self._pending: list[tuple[Rows, NDArray[np.int32]]] = []

    def observe(self, rows: Rows, nll: NDArray[np.float64], tokens: NDArray[np.int64], step: int) -> None:
        """What the student's loss on these rows was at a step.

        ``rows``: row numbers, int64 (rows,). ``nll``: float64 (rows,), sums in nats over ``tokens``, int64 (rows,).
        Rows with no token, or no finite loss, say nothing. ``step``: from 1, never falling.
        """
        if step != self._step:
            self._settle()
        self._step = step
        scored = (tokens > 0) & np.isfinite(nll)
        if scored.any():
            self._pending.append((rows[scored], _units(nll[scored] / tokens[scored])))

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """The loss of each of these rows now, float64 (rows,), in nats per response token.

        Of a table without losses, 0 before anything is observed.
        """
        self._settle()
        return (self._guess[rows] + self._fit(rows)) / NAT

    def _settle(self) -> None:
        """Fit again with what was observed since, and let each of those rows have its own loss as its guess."""
        if not self._pending:
            return
        rows = np.concatenate([rows for rows, _ in self._pending])
        loss = np.concatenate([loss for _, loss in self._pending]).astype(np.int64)
        self._pending.clear()
        weight = self._step**RECENCY
        for start in range(0, len(rows), BLOCK):
            block = slice(start, start + BLOCK)
            features = self._features[:, rows[block]].astype(np.int64)
            equations = np.vstack([features, loss[block] - self._guess[rows[block]]])
            self._moments += weight * (features @ equations.T).astype(object)
        penalty = RIDGE * weight * UNIT**2
        self._coefficients = _solved(self._moments, [0] + [penalty] * (len(self._features) - 1))
        own = loss - self._fit(rows)
        self._guess[rows] = np.clip(own, -HIGHEST * NAT, HIGHEST * NAT)

    def _fit(self, rows: Rows) -> NDArray[np.int64]:
        """By how much the loss of these rows is expected to differ from their guess, int64 (rows,)."""
        total = np.zeros(len(rows), np.int64)
        for coefficient, feature in zip(self._coefficients, self._features, strict=True):
            total += coefficient * feature[rows].astype(np.int64)
        return total * (NAT // (UNIT * COEFFICIENT))


def _units(loss: NDArray[np.float64]) -> NDArray[np.int32]:
    """Losses in nats as whole numbers of ``1 / NAT``."""
    return np.rint(np.clip(loss, -HIGHEST, HIGHEST) * NAT).astype(np.int32)


def _scaled(loss: NDArray[np.int32], low: int, middle: int, high: int) -> NDArray[np.int16]:
    """Losses on a scale on which ``low`` and ``high`` are 2 apart; 0 is the middle, and beyond ±2 they are cut."""
    apart = max(1, int(high) - int(low))
    return np.clip((loss.astype(np.int64) - int(middle)) * 2 * UNIT // apart, -2 * UNIT, 2 * UNIT).astype(np.int16)


def _shortness(tokens: NDArray[np.float64]) -> NDArray[np.int16]:
    """From ``UNIT`` for no token down to -``UNIT`` for many, as 1 / tokens falls; 0 where there is no count (NaN)."""
    counts = np.clip(np.nan_to_num(tokens, nan=SHORT), 0, 1 << 30).astype(np.int64)
    return (2 * UNIT * SHORT // (SHORT + counts) - UNIT).astype(np.int16)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.int16]:
    """Ranks from -``UNIT`` to ``UNIT``, equal for equal values; 0, the middle, where there is no value (NaN)."""
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN sorts last
    ranked = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])[: len(order)])
    ends = np.append(starts[1:], len(order))
    twice = np.repeat(starts + ends, ends - starts)  # how many values are lower, and how many are not higher
    ranks = np.zeros(len(values), np.int16)
    ranks[order] = (twice - len(order)) * UNIT // max(1, len(order))
    return ranks


def _solved(moments: NDArray[np.object_], penalties: Sequence[int]) -> list[int]:
    """The coefficients in units of ``1 / COEFFICIENT``: those of the normal equations, exactly, then rounded.

    ``moments``: whole numbers (k, k + 1), the equations of k features with their right-hand side last.
    """
    rows = [[Fraction(value) for value in row] for row in moments]
    for index, penalty in enumerate(penalties):
        rows[index][index] += penalty
    for index, pivot in enumerate(rows):  # the matrix is positive definite: no pivot is zero
        for row in rows[index + 1 :]:
            ratio = row[index] / pivot[index]
            row[:] = [value - ratio * other for value, other in zip(row, pivot, strict=True)]
    solution: list[Fraction] = []
    for index in reversed(range(len(rows))):
        *_, target = row = rows[index]
        later = sum((value * each for value, each in zip(row[index + 1 : -1], solution, strict=True)), Fraction())
        solution.insert(0, (target - later) / row[index])
    return [round(each * UNIT * COEFFICIENT / NAT) for each in solution]
