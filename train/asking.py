"""What the student, as it is now, says to the questions of a curriculum, and what it takes to ask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from curricle.train.curricula.base import Probe, ProbeResult
from curricle.train.data.batching import Size
from curricle.train.data.encoding import Encoded, Encoder
from curricle.train.data.table import Example, Rows, Table
from curricle.train.distributed import Processes
from curricle.train.model.probe import ask
from curricle.train.model.student import Student
from curricle.train.rewards.refresh import Refresher


@dataclass(frozen=True)
class Answer:
    """``size``, ``seconds``: what it took. ``remarks``: figures for the metrics; ``words``: lines for the log."""

    result: ProbeResult
    size: Size
    seconds: float
    remarks: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asking:
    """Puts probes to the student. All processes ask together, and hold the same bits of every answer.

    ``examples`` and ``encode`` read rows of the table. ``capacity``: tokens in a forward pass of one process;
    ``between`` is called after each.
    """

    student: Student
    encoder: Encoder
    table: Table
    examples: Callable[[Rows], list[Example]]
    encode: Callable[[Rows], list[Encoded]]
    seed: int
    capacity: int
    processes: Processes
    between: Callable[[], None]

    def answer(self, probe: Probe) -> Answer:
        return self._reward_gap(probe) if probe.purpose == "refresh" else self._nll(probe)

    def _nll(self, probe: Probe) -> Answer:
        result, size, seconds = ask(self.student, probe, self.encode, self.capacity, self.processes, self.between)
        losses = {
            candidate.name: float(nll.sum() / tokens.sum()) if tokens.any() else None
            for candidate, nll, tokens in zip(probe.candidates, result.nll, result.tokens, strict=True)
        }
        return Answer(result, size, seconds, {"loss": losses})

    def _reward_gap(self, probe: Probe) -> Answer:
        """By a head that is fitted on the answers of the student as it is now."""
        refreshed = Refresher(
            self.student,
            self.encoder,
            self.table,
            self.examples,
            self.seed,
            self.capacity,
            self.processes,
            self.between,
        ).refresh(probe)
        words = f"the reward ranks the reference first in {refreshed.accuracy}, each by a head that has not seen it"
        remarks = {"accuracy": refreshed.accuracy._asdict()}
        return Answer(refreshed.answer, refreshed.size, refreshed.seconds, remarks, (words,))
