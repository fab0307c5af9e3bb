"""An order that follows the student, one global batch at a time, for a trainer that makes the steps itself."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from curricle.schemas.common.errors import UsageError, UserError
from curricle.train.curricula.base import Outcome, Probe, ProbeResult, Stage
from curricle.train.data.table import Table
from curricle.train.distributed import Processes
from curricle.train.integrations.checkpoints import FOLDER
from curricle.train.model.outcome import StageLosses
from curricle.train.ordering.audit import OrderAudit
from curricle.train.ordering.batches import Cutter, GlobalBatch
from curricle.train.ordering.journal import JOURNAL, Header, Journal, open_journal
from curricle.train.ordering.replay import JournaledCourse, recorded_course
from curricle.train.ordering.summary import Tally
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

OUTCOME = "outcome.safetensors"


@dataclass(frozen=True)
class OrderProgress:
    """How far an order has come, as the trainer's state keeps it: ``order`` is the hash of the ids consumed."""

    step: int
    order: str
    records: int
    processes: int


class OrderFollower:
    """Gives the batches of a course, and takes what came of them.

    The journal is ``journal.jsonl`` in the output directory of the trainer; a checkpoint has a copy of it, as it was
    then. A resume begins with that copy: what was decided after it is asked again, of the same student.
    ``losses``: of the stage, where the curriculum wants them; ``batch``: the one that is being trained on.
    """

    def __init__(
        self, table: Table, header: Header, output: Path, processes: Processes, ask: Callable[[Probe], ProbeResult]
    ) -> None:
        self._table, self._header, self._processes, self._ask = table, header, processes, ask
        self.path = output / JOURNAL
        self.audit, self.tally = OrderAudit(processes), Tally(len(table))
        self.losses: StageLosses | None = None
        self.batch: GlobalBatch | None = None
        self.step = 0
        self._resumed = 0
        self._stage: Stage | None = None
        self._batches: Iterator[GlobalBatch] = iter(())

    def begin(self, checkpoint: Path | None = None, saved: OrderProgress | None = None) -> None:
        """Open the journal, from the start or as a checkpoint has it, and pass over the steps that it has made.

        UsageError for a checkpoint that has no journal, or one of another order.
        """
        if (checkpoint is None) != (saved is None):
            raise UsageError(
                "the checkpoint was made without a curriculum, so that its order is not known",
                where=str(checkpoint),
                remedy="start without resume_from_checkpoint, in another output_dir",
            )
        if self._processes.first:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if checkpoint:
                shutil.copyfile(self._copy(checkpoint), self.path)
            else:
                self.path.unlink(missing_ok=True)
        self._processes.barrier()
        self.journal = open_journal(self.path, self._header, self._processes.first)
        course = recorded_course(Journal(self.journal.header), self._table, self._header.curriculum)
        self._course = JournaledCourse(course, self.journal)
        self._cutter = Cutter(self._header.batch, self.journal.budgets)
        if checkpoint and saved:
            self._pass_over(checkpoint, saved)

    def _copy(self, checkpoint: Path) -> Path:
        copy = checkpoint / FOLDER / JOURNAL
        if not copy.exists():
            raise UsageError(
                f"the checkpoint has no {FOLDER}/{JOURNAL}", where=str(checkpoint), remedy="go on from an earlier one"
            )
        return copy

    def _pass_over(self, checkpoint: Path, saved: OrderProgress) -> None:
        self._resumed = saved.step
        for _ in range(saved.step):
            if (batch := self.next_batch()) is None:
                break
            self.audit.skip(self._table.ids[batch.rows])
            self.finish_step()
        if (self.step, self.audit.digest) != (saved.step, saved.order):
            raise UserError(
                "the order so far is not the order that the checkpoint was trained on",
                where=str(checkpoint),
                remedy="use the same table, checkpoint and version as before, or start a new run",
            )
        if self.losses:
            try:
                losses = load_file(checkpoint / FOLDER / OUTCOME)
            except (OSError, SafetensorError) as error:
                raise UserError(
                    f"the losses of the stage cannot be read: {error}",
                    where=str(checkpoint),
                    remedy="go on from an earlier checkpoint",
                ) from error
            self.losses.restore(losses)

    def next_batch(self) -> GlobalBatch | None:
        """The rows of the next step, when the one before is made; None at the end of the order. Probes are put to the
        student as it is now."""
        self.finish_step()
        while (batch := next(self._batches, None)) is None:
            self._finish_stage()
            if self._cutter.spent or (step := self._course.next()) is None:
                return None
            if isinstance(step, Probe):
                self._check_passed_over(f"decision {step.index}")
                self._course.answer(self._ask(step))
                continue
            self._stage = step
            self.tally.stage(step)
            self.losses = StageLosses(len(step.rows), self._processes) if step.outcome else None
            self._batches = self._cutter.cut(step)
        self.batch = batch
        self.tally.batch(batch.rows)
        if self.step >= self._resumed:
            self.audit.plan(self._table.ids[batch.rows])
        return batch

    def finish_step(self) -> None:
        """The step of the last batch is made."""
        if self.batch is not None:
            if self.losses:
                self.losses.close(len(self.batch.rows))
            self.step += 1
            self.batch = None

    def _finish_stage(self) -> None:
        if self._stage is not None and self.losses and not self._cutter.spent:
            self._check_passed_over(f"the outcome of stage {self._stage.index}")
            self._course.report(Outcome(**self.losses.read(), index=self._stage.index))  # type: ignore[arg-type]
            self.losses = None

    def _check_passed_over(self, wanted: str) -> None:
        if self.step < self._resumed:
            raise UserError(
                f"the journal does not have {wanted}, which the checkpoint of step {self._resumed} rests on",
                where=str(self.path),
                remedy="go on from an earlier checkpoint",
            )

    def save(self, checkpoint: Path) -> dict[str, object]:
        """Add to a checkpoint what a resume needs, and return what its state has to say; called by every process.

        UserError if what went through the model is not what was planned.
        """
        self.finish_step()
        self.audit.check(self.step)
        losses = self.losses.read() if self.losses else None
        if self._processes.first:
            folder = checkpoint / FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path, folder / JOURNAL)
            if losses:
                save_file(losses, folder / OUTCOME)
        return asdict(OrderProgress(self.step, self.audit.digest, len(self.journal.records), self._processes.world))

    def rows_of_processes(self, passes: int) -> list[list[np.ndarray]]:  # type: ignore[type-arg]
        """Which indices of the batch each process takes in each of so many passes: consecutive, and as even as can be;
        none in some of a small batch."""
        assert self.batch is not None
        shares = np.array_split(np.arange(len(self.batch.rows)), self._processes.world)
        return [np.array_split(share, passes) for share in shares]
