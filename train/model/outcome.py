"""The loss of each row of a stage, taken from the steps that train on it: no pass of its own."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from curricle.train.distributed import Processes
from curricle.train.model.loss import document_sums
from numpy.typing import NDArray


class StageLosses:
    """Collects the losses of a stage, one batch after the other.

    Each process keeps those of the documents that it trains on, where they were computed, until ``settle`` moves them
    to the host; ``read`` adds up what all have. The sums of a document are over its tokens in order, whatever it is
    batched with.
    """

    def __init__(self, rows: int, processes: Processes) -> None:
        """``rows``: how many the stage has."""
        self._processes = processes
        self._nll, self._tokens = np.zeros(rows), np.zeros(rows, np.int64)
        self.done = 0  # rows of batches that are closed
        self._losses: list[torch.Tensor] = []
        self._indices: list[int] = []
        self._counts: list[int] = []

    def add(self, documents: Sequence[int], counts: Sequence[int], nll_S: torch.Tensor) -> None:
        """What a forward pass of the current batch gave: ``counts[i]`` losses of ``documents[i]``, an index in the
        batch, one document after the other. Nothing waits for the device."""
        self._losses.append(nll_S.detach())
        self._indices += [self.done + index for index in documents]
        self._counts += counts

    def close(self, rows: int) -> None:
        """The current batch, of so many rows, is trained on."""
        self.done += rows

    def settle(self) -> None:
        """Move what has been added to the host, which waits for the device."""
        self._nll += document_sums(self._losses, self._indices, self._counts, len(self._nll))
        self._tokens[self._indices] += np.array(self._counts, np.int64)
        self._losses, self._indices, self._counts = [], [], []

    def read(self) -> dict[str, NDArray[np.generic]]:
        """``nll``, float64 in nats, and ``tokens``, int64, of the rows trained on so far, the same in every process."""
        self.settle()
        nll, tokens = self._processes.sum(self._nll), self._processes.sum(self._tokens)
        return {"nll": nll[: self.done], "tokens": tokens[: self.done]}

    def restore(self, saved: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from what ``read`` gave when as many rows were done."""
        if self._processes.first:  # what all have is added up
            self._nll[: self.done], self._tokens[: self.done] = saved["nll"], saved["tokens"]
