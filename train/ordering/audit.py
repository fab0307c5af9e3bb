"""A watch over a run that never makes the device wait: which rows were really consumed."""

from collections.abc import Sequence

import numpy as np
from curricle.schemas.common.errors import UserError
from curricle.train.data.batching import MicroBatch
from curricle.train.data.encoding import Encoded
from curricle.train.distributed import Processes
from curricle.train.ordering.batches import OrderHash
from numpy.typing import NDArray


class OrderAudit:
    """Compares the ids of the rows that went through the model with the plan (docs/design.md, law 5).

    The plan hashes the ids of each global batch. Every process notes the ids of the documents that it consumed, at
    their indices; ``check`` adds these up over the processes. A row consumed twice, or by nobody, or at another's index
    gives another sum, and so another hash.
    """

    def __init__(self, processes: Processes) -> None:
        self._planned, self._consumed = OrderHash(), OrderHash()
        self._processes = processes
        self._words: list[NDArray[np.int64]] = []

    @property
    def digest(self) -> str:
        """The hash of what was planned so far."""
        return self._planned.hexdigest()

    def skip(self, ids: NDArray[np.uint8]) -> None:
        """A global batch that was trained on, and checked, before the run was resumed."""
        self._planned.update(ids)
        self._consumed.update(ids)

    def plan(self, ids: NDArray[np.uint8]) -> None:
        """The next global batch, uint8 (rows, 16)."""
        self._planned.update(ids)
        self._words.append(np.zeros((len(ids), 2), np.int64))

    def consume(self, passes: Sequence[MicroBatch], documents: Sequence[Encoded], ids: NDArray[np.uint8]) -> None:
        """What this process trained on in the last batch; ``ids`` are those of the whole table."""
        indices = [index for micro in passes for index in micro.documents]
        if self._processes.first:  # a document without tokens is visited by nobody, and counts as consumed
            indices += [index for index, document in enumerate(documents) if not len(document)]
        self.note(indices, ids[[documents[index].row for index in indices]])

    def note(self, indices: Sequence[int], ids: NDArray[np.uint8]) -> None:
        """This process trained on rows at these indices of the last batch, whose ids are uint8 (indices, 16)."""
        np.add.at(self._words[-1], np.asarray(indices, np.int64), np.ascontiguousarray(ids).view("<i8"))

    def check(self, step: int) -> None:
        """UserError if what was consumed is not what was planned."""
        if self._words:
            sizes = [len(words) for words in self._words]
            summed = self._processes.sum(np.concatenate(self._words))
            for words in np.split(summed, np.cumsum(sizes)[:-1]):
                self._consumed.update(np.ascontiguousarray(words).view(np.uint8).reshape(-1, 16))
            self._words = []
        if self._consumed.hexdigest() != self.digest:
            raise UserError(
                f"the rows trained on before step {step} are not the rows that were planned",
                remedy="the checkpoints up to the one before are in order; please report this",
            )
