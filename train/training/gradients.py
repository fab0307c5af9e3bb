"""The gradients of one optimizer step: added up over passes, and over processes."""

from collections.abc import Sequence

import torch
from curricle.train.data.batching import MicroBatch, micro_batches
from curricle.train.data.encoding import Encoded
from curricle.train.distributed import Processes
from curricle.train.model.memory import smaller_passes
from curricle.train.model.student import Student
from curricle.train.settings import BatchSettings


class Gradients:
    """Adds up the gradients of global batches. Where memory runs out, passes have half as many tokens from there on."""

    def __init__(
        self,
        student: Student,
        optimizer: torch.optim.Optimizer,
        seed: int,
        how: BatchSettings,
        processes: Processes,
    ) -> None:
        self._student, self._optimizer, self._seed, self._how = student, optimizer, seed, how
        self._processes, self._capacity = processes, how.tokens

    def add(self, documents: Sequence[Encoded], step: int) -> tuple[list[list[MicroBatch]], list[torch.Tensor]]:
        """The passes of all processes that add up the gradients of a step, and the losses of this one's, in nats.

        Where memory runs out, all passes of the step are made again. The random numbers of dropout depend on the step
        alone.
        """
        world, rank = self._processes.world, self._processes.rank
        scored = sum(len(document.scored) for document in documents)
        longest = max((len(document) for document in documents), default=1)
        while True:
            capacity = max(self._capacity, longest)
            everyone = micro_batches(documents, capacity, world, self._how.packing, self._student.alike)
            losses: list[torch.Tensor] = []
            torch.manual_seed((self._seed * 1_000_003 + step * world + rank) % 2**64)
            try:
                for index, micro in enumerate(everyone[rank]):
                    with self._student.accumulating(last=index == len(everyone[rank]) - 1):
                        nll_S = self._student.nll(micro)
                        # processes average their gradients: times their number, the average is the sum
                        (nll_S.sum() * (world / max(1, scored))).backward()
                    losses.append(nll_S.detach())
                return everyone, losses
            except (RuntimeError, MemoryError) as error:
                together = max(len(micro.documents) for micro in everyone[rank])
                self._capacity = smaller_passes(error, f"step {step + 1}", capacity, together, world)
            nll_S = None  # type: ignore[assignment]
            self._optimizer.zero_grad()
