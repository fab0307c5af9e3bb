"""The training run, from top to bottom: open, resume, follow the order, step, look, save."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from curricle.schemas.chat.models import embeddings
from curricle.schemas.common.errors import UserError
from curricle.schemas.common.wording import counted
from curricle.train.curricula.base import Outcome, Probe, ProbeResult, Stage
from curricle.train.data.batching import MicroBatch, Size
from curricle.train.data.documents import DocumentReader, count_notes
from curricle.train.data.encoding import ConversationTokenizer, Encoded
from curricle.train.data.prefetch import Prefetcher
from curricle.train.distributed import Processes, Stop
from curricle.train.model import checkpoint as checkpoints
from curricle.train.model.answers import HeldOutAnswers
from curricle.train.model.evaluate import evaluate
from curricle.train.model.finite import Finite
from curricle.train.model.load import load_model, load_tokenizer
from curricle.train.model.lora import add_adapters
from curricle.train.model.memory import memory_in_words
from curricle.train.model.optimizer import build_optimizer, clip, learning_rate
from curricle.train.model.outcome import StageLosses
from curricle.train.model.peak import peak_flops
from curricle.train.model.student import Student
from curricle.train.ordering.audit import OrderAudit
from curricle.train.ordering.batches import Cutter, GlobalBatch
from curricle.train.ordering.journal import JOURNAL, open_journal
from curricle.train.ordering.order import described, domains_of, sorted_by
from curricle.train.ordering.replay import JournaledCourse
from curricle.train.ordering.summary import Tally
from curricle.train.records.checkpoints import Cursor, locked
from curricle.train.records.metrics import Metrics
from curricle.train.settings import RunSettings
from curricle.train.training.asking import Asking
from curricle.train.training.gradients import Gradients
from curricle.train.training.preparation import Preparation, prepare
from curricle.train.training.progress import Reporter, Spent, extension_in_words

log = logging.getLogger("curricle")


def run(settings: RunSettings, processes: Processes, stop: Stop | None = None) -> Path:
    """Train, or go on training, and return the last checkpoint: ``prepare`` and ``train``."""
    return train(prepare(settings), processes, stop)


def train(prepared: Preparation, processes: Processes, stop: Stop | None = None) -> Path:
    """Train what was prepared, and return the last checkpoint.

    ``stop``: where somebody may ask the run to stop; it then saves and raises KeyboardInterrupt. It runs in any thread,
    installs no signal handler, and leaves torch's settings and random numbers as they were.
    UsageError for what is wrong before anything is written; UserError for what stops a run.
    """
    if prepared.finished and prepared.resumed:
        log.info("the run is finished: there is nothing left to do after step %d", prepared.cursor.step)
        return prepared.resumed
    with loaded(prepared, processes, stop) as loop:
        return loop.run()


@contextmanager
def loaded(prepared: Preparation, processes: Processes, stop: Stop | None = None) -> Iterator["Loop"]:
    """A run whose model and optimizer are loaded, and of which nothing is written yet."""
    with _reproducible(processes.device), memory_in_words():
        loop = Loop(prepared, processes, stop or Stop(processes))
        loop.load()
        yield loop


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Deterministic kernels on a CPU, and random numbers of a run's own; afterwards both are as they were."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.use_deterministic_algorithms(device.type == "cpu")
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


class Loop:
    """One run. Everything that may be refused is read first, by ``load`` at last; only ``run`` writes."""

    def __init__(self, prepared: Preparation, processes: Processes, stop: Stop) -> None:
        self.prepared, self.processes, self.stop = prepared, processes, stop
        self.settings, self.table, self.header = prepared.settings, prepared.table, prepared.header
        self.resumed, self.cursor = prepared.resumed, prepared.cursor

    def load(self) -> None:
        """Read the model and the optimizer, as the last checkpoint has them."""
        settings, processes, step = self.settings, self.processes, self.cursor.step
        if self.resumed:
            checkpoints.check_together(self.resumed, processes)
        self.tokenizer = load_tokenizer(settings.model)
        self.encoder = ConversationTokenizer(self.tokenizer, settings.template, settings.max_length)
        self.documents = DocumentReader(self.encoder, str(settings.data))
        reported, split = self.prepared.reported, self.prepared.split
        evaluations = [line["step"] for line in reported if line["kind"] == "eval"]
        self.evaluated = max((at for at in evaluations if at <= step), default=None)
        checks = [line for line in reported if line["kind"] == "check" and line["step"] <= step]
        self.checked = {line["decision"] for line in checks}
        # what came after the checkpoint is dropped, and comes again
        self.summarized = any(line["kind"] == "summary" and line["step"] == step for line in reported)
        self.summarized &= not self.prepared.is_extended
        log.info("loading the model", extra={"figures": {"phase": "loading the model"}})
        torch.manual_seed(self.header.seed)
        plain = self.resumed is None or settings.lora.rank > 0
        model = load_model(settings.model if plain else str(self.resumed), settings.device.attention)
        self.encoder.vocabulary = embeddings(model)
        self.documents.check_learns(self.table)
        self.held_out, self.tuning = map(self.documents.encode_sets, (split.held_out, split.tuning))
        if not self.resumed:
            self.documents.check_judges(self.held_out)
            self.documents.check_judges(self.tuning)
        if settings.lora.rank:
            add_adapters(model, settings.lora, settings.model)
        self.student = Student(model, settings.device, processes, settings.batch, settings.max_length)
        self.optimizer = build_optimizer(self.student.scorer, settings.optimizer)
        if self.resumed:
            checkpoints.load_weights(self.resumed, self.student)
            checkpoints.load_optimizer(self.resumed, self.student, self.optimizer, processes)
        self.asking = Asking(
            self.student,
            self.encoder,
            self.table,
            self.documents.examples,
            self.header.seed,
            settings.batch.tokens,
            processes,
            self._stop_if_asked,
        )
        self.answers = self._held_out_answers() if settings.eval.generations else None
        self.order, self.finite = OrderAudit(processes), Finite(processes)
        self.notes = Counter(self.cursor.notes)
        self.gradients = Gradients(self.student, self.optimizer, self.header.seed, settings.batch, processes)
        self.step, self.spent = 0, Spent(self.prepared.budgets[-1], settings.optimizer.horizon)
        self.tally = Tally(len(self.table))
        self.stage: Stage | None = None
        self.losses: StageLosses | None = None
        self.last: tuple[MicroBatch, Sequence[Encoded]] | None = None

    def _held_out_answers(self) -> HeldOutAnswers:
        how, sets = self.settings.eval, self.prepared.split.held_out
        name = min(sets)
        rows = np.arange(min(how.generations, len(sets[name])))
        ids = [sets[name].ids[row].tobytes().hex() for row in rows]
        # what came after the checkpoint is dropped, and comes again
        lines = [line for line in self.prepared.reported if line["kind"] == "eval" and line["step"] <= self.cursor.step]
        return HeldOutAnswers(
            self.student,
            self.encoder,
            name,
            dict(zip(ids, self.documents.examples(sets[name], rows), strict=True)),
            how.generation_tokens,
            self.settings.batch.tokens,
            self.processes,
            [line["generations"] for line in lines if "generations" in line],
        )

    def run(self) -> Path:
        if not self.processes.first:
            self.processes.barrier()
            return self._train(write=False)
        with locked(self.settings.output):
            self.prepared.description.write()
            self.processes.barrier()
            saved = self._train(write=True)
            self.prepared.description.write(finished=self.step)
            return saved

    def _train(self, write: bool) -> Path:
        """Follow the order from where the last checkpoint left it. Every process takes its share of every batch."""
        settings, processes = self.settings, self.processes
        prepared = self.prepared
        self.journal = open_journal(settings.output / JOURNAL, self.header, write, prepared.recording, prepared.budgets)
        course = JournaledCourse(prepared.course, self.journal, prepared.replayed)
        cutter = Cutter(self.header.batch, prepared.budgets, prepared.tokens)
        metrics = Metrics(settings.output, self.cursor.step, settings.log) if write else None
        peak = peak_flops(processes.device, settings.device.peak_tflops)
        self.reporter = Reporter(self.student, processes, metrics, self.cursor.totals, peak)
        self.ahead = Prefetcher(partial(self.documents.encode, self.table), self.header.batch)
        self.stop.watched = True
        self.began = time.perf_counter()
        try:
            if not self.cursor.step:
                self._begin()
            while not cutter.spent and (step := course.next()) is not None:
                if isinstance(step, Probe):
                    course.answer(self._ask(step))
                else:
                    self._train_on(step, cutter)
                    if self.losses and not cutter.spent:  # at the end the last checkpoint keeps them
                        course.report(self._outcome(step, self.losses))
                        self.losses = None
            if self.step < self.cursor.step:
                raise self._another_order()
            return self._finish()
        finally:
            self.ahead.close()
            self.reporter.close()

    def _train_on(self, stage: Stage, cutter: Cutter) -> None:
        """Make the steps of a stage; those before the checkpoint were made, and are passed over."""
        self.stage, rest, begun = stage, stage.rows, False
        self.tally.stage(stage)
        if stage.calibration and stage.calibration.decision not in self.checked:
            self.reporter.calibration(self.step, stage.calibration)
        self.losses = StageLosses(len(stage.rows), self.processes) if stage.outcome else None
        for batch in cutter.cut(stage):
            if self.step < self.cursor.step:
                rest = rest[len(batch.rows) :]
                self._pass_over(batch)
                continue
            if not begun:
                self.ahead.begin(rest)
                begun = True
            self._step(batch, self.ahead.take(len(batch.rows)))
            self._look()

    def _pass_over(self, batch: GlobalBatch) -> None:
        self.spent.add(batch, self.prepared.tokens)
        self.tally.batch(batch.rows)
        self.order.skip(self.table.ids[batch.rows])
        self.step += 1
        if self.losses:
            self.losses.close(len(batch.rows))
        if self.step == self.cursor.step:
            self._begin()

    def _begin(self) -> None:
        """The next step is one that the checkpoint does not have."""
        if self.order.digest != self.cursor.order:
            raise self._another_order()
        if self.losses and self.resumed:
            saved = checkpoints.load_losses(self.resumed)
            if len(saved.get("nll", ())) != self.losses.done:
                raise self._short_journal()
            self.losses.restore(saved)
        self.reporter.window.pause(time.perf_counter() - self.began)
        where = f"going on after step {self.step}" if self.resumed else "from the start"
        log.info("%s; %s", described(self.table, self.header), where)
        for note in self.table.notes:
            log.info("  %s", note)
        if self.prepared.is_extended:
            for line in extension_in_words(self.prepared.budgets, self.spent, self.settings.optimizer):
                log.info("  %s", line)

    def _another_order(self) -> UserError:
        return UserError(
            "the order so far is not the order that the checkpoint was trained on",
            where=str(self.resumed),
            remedy="use the same table, journal and version as before, or choose another output directory",
        )

    def _look(self) -> None:
        """What is due between two steps."""
        settings, step = self.settings, self.step
        looks = bool(settings.eval.every) and step % settings.eval.every == 0
        if looks or step % settings.log.every == 0:
            self._report()
        if looks:
            self._evaluate()
        if settings.checkpoint.every and step % settings.checkpoint.every == 0:
            self._save_what_is_learned()
        self._stop_if_asked()

    def _finish(self) -> Path:
        self.ahead.drop()
        for note, visits in self.notes.items():
            log.info("  %s: %s", note, counted(visits, "visit"))
        if self.step == 0:
            raise UserError("the order is empty", remedy="raise the budget, or look at the options of the curriculum")
        self._report()
        if not self.reporter.totals.get("scored"):
            words = f"no token was scored in {self.step} steps, and nothing is learned"
            raise self.documents.nothing_to_learn(UserError, words, self.notes)
        self._evaluate()
        self._summarize()
        return self._save()

    def _summarize(self) -> None:
        if not self.summarized:
            columns, domains = sorted_by(self.header, self.table), domains_of(self.header, self.table)
            summary = self.tally.summary(self.table, columns, self.header.seed, domains)
            self.reporter.summary(self.step, summary)

    def _step(self, batch: GlobalBatch, documents: Sequence[Encoded]) -> None:
        """One optimizer step. Sums of losses are divided once, by the scored tokens of the whole global batch.

        The random numbers of dropout depend on the step alone, so that there is no random state to save. Nothing here
        waits for the device; on a CPU, where there is nothing to wait for, a bad loss stops before the weights change.
        """
        self.spent.add(batch, self.prepared.tokens)
        self.tally.batch(batch.rows)
        self.order.plan(self.table.ids[batch.rows])
        self.notes += count_notes(documents)
        everyone, losses = self.gradients.add(documents, batch.step)
        mine = everyone[self.processes.rank]
        for micro, nll_S in zip(mine, losses, strict=True):
            self.finite.watch(micro, nll_S, documents)
            self.reporter.window.add(nll_S)
            if self.losses:
                self.losses.add(micro.documents, micro.counts, nll_S)
        lr = learning_rate(self.settings.optimizer, self.spent.middle)
        norm = clip(self.student.scorer, self.settings.optimizer.clip)
        self.finite.close(batch.step, norm)
        if self.processes.device.type == "cpu":
            self.finite.check()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.order.consume(mine, documents, self.table.ids)
        size = sum((micro.size for share in everyone for micro in share), Size())
        self.reporter.window.close(size, len(documents), norm, lr)
        if self.losses:
            self.losses.close(len(documents))
        self.step += 1
        self.last = mine[-1], documents

    def _ask(self, probe: Probe) -> ProbeResult:
        """What the student, as it is now, says to a question of the curriculum."""
        self._check_journal(f"decision {probe.index}")
        self._check()
        answer = self.asking.answer(probe)
        for words in answer.words:
            log.info("step %d  %s", self.step, words)
        self.reporter.probe(self.step, probe, answer.size, answer.seconds, **answer.remarks)
        return answer.result

    def _outcome(self, stage: Stage, losses: StageLosses) -> Outcome:
        """What came of a stage: its losses, as the steps themselves computed them."""
        self._check_journal(f"the outcome of stage {stage.index}")
        self._check()
        return Outcome(**losses.read(), index=stage.index)  # type: ignore[arg-type]

    def _check_journal(self, wanted: str) -> None:
        """UserError where a journal alone may answer, and ends before. What it does record is trained, and saved."""
        if self.step < self.cursor.step:
            raise self._short_journal()
        if self.settings.replay:
            if self.step > self.cursor.step:
                self._save_what_is_learned()
            raise UserError(
                f"the journal ends at {wanted}, after {self.step} steps and before its budget is spent",
                where=str(self.settings.replay),
                remedy="name the journal of a run that went to its end; "
                "the last checkpoint holds what this one records",
            )

    def _short_journal(self) -> UserError:
        return UserError(
            f"the journal does not have the decisions that the checkpoint of step {self.cursor.step} rests on",
            where=str(self.settings.output / JOURNAL),
            remedy=f"copy it back from {self.resumed}/state/journal.jsonl",
        )

    def _stop_if_asked(self) -> None:
        """Between two steps, or two passes of a probe: it is asked again, by the same student, on a resume."""
        if self.stop.agreed():
            if self.step > self.cursor.step:
                if sys.stderr.isatty():  # somebody waits, and a checkpoint may take long
                    log.info("asked to stop: saving step %d", self.step)
                self._save_what_is_learned()
            raise KeyboardInterrupt(f"step {self.cursor.step} is saved" if self.cursor.step else "")

    def _report(self) -> None:
        if self.reporter.window.steps:
            assert self.stage is not None
            self._check()
            self.reporter.steps(self.step, self.stage, self.spent.share)

    def _evaluate(self) -> None:
        if not (self.held_out or self.tuning) or self.evaluated == self.step:
            return
        self.evaluated = self.step
        began, capacity = time.perf_counter(), self.settings.batch.tokens
        losses, tuning = (
            {name: evaluate(self.student, rows, capacity, self.processes) for name, rows in sets.items()}
            for sets in (self.held_out, self.tuning)
        )
        seconds = time.perf_counter() - began
        answers = self.answers.record() if self.answers else None
        self.reporter.evaluation(self.step, self.spent.share, losses, tuning, seconds, answers)

    def _save_what_is_learned(self) -> None:
        """Save, but not as long as the weights are what they were at the start."""
        self._report()
        if self.reporter.totals.get("scored"):
            self._save()
        else:
            log.warning("step %d is not saved: no token is scored so far, and nothing is learned", self.step)

    def _save(self) -> Path:
        """A checkpoint closes the line of the log: what a resume goes on from has all costs in its totals."""
        self._report()
        began = time.perf_counter()
        self._look_again()
        cursor = Cursor(
            self.step, self.order.digest, len(self.journal.records), dict(self.reporter.totals), dict(self.notes)
        )
        saved = checkpoints.save(
            self.settings.output,
            cursor,
            self.student,
            self.optimizer,
            self.tokenizer,
            self.settings.checkpoint,
            self.settings.output / JOURNAL,
            self.processes,
            self.losses.read() if self.losses else None,
        )
        self.cursor = cursor
        self.reporter.window.pause(time.perf_counter() - began)
        return saved

    def _look_again(self) -> None:
        """A step shows in the loss of the next one only. Weights that give no loss any more are no checkpoint."""
        if self.last is None:
            return
        micro, documents = self.last
        with self.student.answering():
            self.finite.watch(micro, self.student.nll(micro), documents)
        self.finite.close(self.step, torch.zeros(()))
        self.finite.check(after_step=True)

    def _check(self) -> None:
        """Look at what the steps have left to look at; here the host waits for the device."""
        self.finite.check()
        if self.losses:
            self.losses.settle()
        self.order.check(self.step)
