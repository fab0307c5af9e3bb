"""Rows of several streams put together, stage by stage."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from curricle.train.curricula.base import Outcome, Probe, Stage
from curricle.train.curricula.mixtures.streams import Stream
from curricle.train.curricula.mixtures.stride import Stride
from curricle.train.data.table import Rows
from numpy.typing import NDArray

Exhausted = Literal["repeat", "drop", "stop"]


@dataclass(frozen=True)
class MixedRows:
    """Rows that were trained on together, the stream of each, and what came of them, if that was asked for."""

    rows: Rows
    owners: NDArray[np.int64]
    outcome: Outcome | None


class Mixing:
    """Several streams, and what becomes of one that has given all of its rows.

    ``repeat``: it begins again. ``drop``: the others share its turns, until all have given theirs; then all begin
    again. ``stop``: that is the end.
    """

    def __init__(self, streams: Sequence[Stream], exhausted: Exhausted = "repeat") -> None:
        self.streams, self._exhausted = streams, exhausted
        self._stride = Stride(len(streams))
        self._begun = [0] * len(streams)  # visits at the start of the pass
        self._calibrations = 0

    @property
    def over(self) -> bool:
        return self._exhausted == "stop" and any(map(self._spent, range(len(self.streams))))

    def _spent(self, index: int) -> bool:
        stream = self.streams[index]
        return stream.visits - self._begun[index] >= stream.size

    def turns(self, units: Sequence[int], size: int) -> Iterator[int]:
        """Whose turn it is, ``size`` times, in proportion to ``units``. Lazy: it looks at what was taken meanwhile."""
        spent: list[bool] = []
        for _ in range(size):
            if self._exhausted == "drop":
                now = [self._spent(index) for index in range(len(self.streams))]
                if all(done or not unit for done, unit in zip(now, units, strict=True)):
                    self._begun = [stream.visits for stream in self.streams]
                    now = [False] * len(now)
                if now != spent:
                    spent, self._stride = now, Stride(len(now))
            left = [0 if done else unit for unit, done in zip(units, spent, strict=True)] if any(spent) else units
            if self.over:
                return
            yield self._stride.next(left)

    def train(
        self, turns: Iterable[int], weights: Mapping[str, float], choice: str | None = None, outcome: bool = False
    ) -> Generator[Probe | Stage, Any, MixedRows | None]:
        """A stage of rows whose turn it is; None where there is none.

        A stream that waits for what comes of its rows in this very stage loses the turns that are left in it.
        """
        rows, owners = list[int](), list[int]()
        for owner in turns:
            stream = self.streams[owner]
            if stream.empty and stream.pending:
                continue
            yield from stream.refill()
            rows.append(stream.take())
            owners.append(owner)
        if not rows:
            return None
        present = sorted(set(owners))
        waiting = any(self.streams[owner].outcome for owner in present)
        competence = {name: share for owner in present for name, share in self.streams[owner].competence.items()}
        stage = Stage(np.array(rows, np.int64), choice, competence, outcome=outcome or waiting, weights=weights)
        calibration = next((it.calibrations.popleft() for it in self.streams if it.calibrations), None)
        if calibration:
            self._calibrations += 1
            stage = replace(stage, calibration=replace(calibration, decision=self._calibrations))
        portion = MixedRows(stage.rows, np.array(owners), (yield stage))
        if portion.outcome is not None:
            for owner in present:
                mine = portion.owners == owner
                self.streams[owner].learn(portion.outcome.nll[mine], portion.outcome.tokens[mine])
        return portion
