"""How far a run has come, and what it has done since the last line of the log."""

import time

import numpy as np
import torch
from curricle.train.data.batching import Size
from curricle.train.distributed import Processes
from curricle.train.ordering.batches import Budget, GlobalBatch
from numpy.typing import NDArray


class Spent:
    """How much of the budget is spent: ``share`` of the limit that is nearest, in [0, 1], after the last batch.

    ``middle`` is the share in the middle of that batch, which sets its learning rate: neither the first step nor the
    last one is made with none.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._samples = self._tokens = self._steps = 0
        self.share = self.middle = 0.0

    def add(self, batch: GlobalBatch, tokens: NDArray[np.int64] | None) -> None:
        self._samples += len(batch.rows)
        self._tokens += 0 if tokens is None else int(tokens[batch.rows].sum())
        self._steps += 1
        budget = self._budget
        pairs = ((self._samples, budget.samples), (self._tokens, budget.tokens), (self._steps, budget.steps))
        before, self.share = self.share, max(spent / limit for spent, limit in pairs if limit)
        self.middle = (before + self.share) / 2


class Window:
    """The steps since the last line of the log."""

    def __init__(self, device: torch.device) -> None:
        self._nll = torch.zeros((), dtype=torch.float64, device=device)
        self._norm = torch.zeros((), device=device)
        self._began, self._paused = time.perf_counter(), 0.0
        self.size, self.samples, self.steps, self.lr = Size(), 0, 0, 0.0

    def add(self, nll_S: torch.Tensor) -> None:
        self._nll += nll_S.detach().sum(dtype=torch.float64)

    def close(self, size: Size, samples: int, norm: torch.Tensor, lr: float) -> None:
        self.size, self.samples, self.steps = self.size + size, self.samples + samples, self.steps + 1
        self._norm, self.lr = norm, lr

    def pause(self, seconds: float) -> None:
        """Time that was not spent on training."""
        self._paused += seconds

    def read(self, processes: Processes) -> tuple[float, tuple[float, float]]:
        """Seconds of training; the sum of the losses of all processes, and the last norm of the gradient."""
        nll = float(processes.sum(self._nll.cpu().numpy()[None])[0])
        return time.perf_counter() - self._began - self._paused, (nll, float(self._norm))
