"""What the student, as it is now, says to the questions of a curriculum, and what it takes to ask."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from curricle.train.curricula.base import Probe, ProbeResult
from curricle.train.data.batching import Size
from curricle.train.data.encoding import ConversationTokenizer, Encoded
from curricle.train.data.table import Example, Rows, Table
from curricle.train.distributed import Processes
from curricle.train.model.probe import NllSums, chunks, score
from curricle.train.model.student import Student
from curricle.train.rewards.refresh import Refresher
from numpy.typing import NDArray


@dataclass(frozen=True)
class ProbeReport:
    """``size``, ``seconds``: what it took. ``remarks``: figures for the metrics; ``words``: lines for the log."""

    result: ProbeResult
    size: Size
    seconds: float
    remarks: Mapping[str, Any]
    words: tuple[str, ...]


@dataclass(frozen=True)
class _RowScores:
    """Scores of rows in rising order."""

    rows: Rows
    scores: NllSums

    def of(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        index = np.searchsorted(self.rows, rows)
        return self.scores.nll[index], self.scores.tokens[index]


class Asking:
    """Puts probes to the student. All processes ask together, and hold the same bits of every answer.

    A kind of probe finds here what it takes to answer: the model, the rows as text and as tokens, and where to say what
    it cost (``spend``) and what is worth a remark (``remark``).
    """

    def __init__(
        self,
        student: Student,
        encoder: ConversationTokenizer,
        table: Table,
        examples: Callable[[Table, Rows], list[Example]],
        seed: int,
        capacity: int,
        processes: Processes,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """``examples`` reads rows of a table. ``capacity``: tokens in a forward pass of one process; ``between`` is to
        be called after each, as often by every process.
        """
        self.student, self.encoder, self.table, self.examples = student, encoder, table, examples
        self.seed, self.capacity, self.processes, self.between = seed, capacity, processes, between
        self._size = Size()
        self._remarks: dict[str, Any] = {}
        self._words: list[str] = []

    def answer(self, probe: Probe) -> ProbeReport:
        """Ask what the probe asks, and say what it took."""
        began = time.perf_counter()
        self._size, self._remarks, self._words = Size(), {}, []
        result = probe.what.answer(self, probe)
        return ProbeReport(result, self._size, time.perf_counter() - began, self._remarks, tuple(self._words))

    def spend(self, size: Size) -> None:
        """Count forward passes that an answer took."""
        self._size += size

    def remark(self, words: str | None = None, **figures: Any) -> None:
        """Something for the log, and figures for the line of the probe in the metrics."""
        self._words += [words] if words else []
        self._remarks |= figures

    def encode(self, table: Table, rows: Rows) -> list[Encoded]:
        """Rows of a table as the student reads them."""
        return self.encoder.encode(rows.tolist(), self.examples(table, rows), table.origin[rows].tolist())

    def nll(self, probe: Probe) -> ProbeResult:
        """The loss of every row of every candidate; a row of several candidates is scored once."""
        scores = {
            held_out: self._score([each.rows for each in probe.candidates if each.held_out == held_out], held_out)
            for held_out in sorted({each.held_out for each in probe.candidates})
        }
        results = [scores[each.held_out].of(each.rows) for each in probe.candidates]
        self.remark(
            loss={
                candidate.name: float(nll.sum() / tokens.sum()) if tokens.any() else None
                for candidate, (nll, tokens) in zip(probe.candidates, results, strict=True)
            }
        )
        return ProbeResult(tuple(nll for nll, _ in results), tuple(tokens for _, tokens in results))

    def _score(self, parts: Sequence[Rows], held_out: bool) -> "_RowScores":
        table, rows = self.table.held_out if held_out else self.table, np.unique(np.concatenate(parts))
        encoded = chunks(rows, lambda chunk: self.encode(table, chunk))
        scores = score(self.student, encoded, self.capacity, self.processes, self.between)
        self.spend(scores.size)
        return _RowScores(rows, scores)

    def reward_gap(self, probe: Probe, limit: int) -> ProbeResult:
        """The reward gap of every row of the first candidate, see ``RewardGap``."""
        refreshed = Refresher(
            self.student,
            self.encoder,
            self.table,
            lambda rows: self.examples(self.table, rows),
            self.seed,
            self.capacity,
            self.processes,
            self.between,
        ).refresh(probe, limit)
        self.spend(refreshed.size)
        self.remark(
            f"the reward ranks the reference first in {refreshed.accuracy}, each by a head that has not seen it",
            accuracy=refreshed.accuracy._asdict(),
        )
        return refreshed.result
