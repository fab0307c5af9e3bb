"""How far a run has come, what it has done since the last line of the log, and what it says of that."""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from curricle.schemas.common.log import duration, printable
from curricle.schemas.common.wording import counted
from curricle.train.curricula.base import Calibration, Probe, Stage
from curricle.train.data.batching import Size
from curricle.train.distributed import Processes
from curricle.train.model.evaluate import HeldOutLoss, macro_mean
from curricle.train.model.optimizer import learning_rate
from curricle.train.model.student import Student
from curricle.train.ordering.batches import Budget, GlobalBatch
from curricle.train.ordering.summary import Summary
from curricle.train.records.metrics import Metrics
from curricle.train.settings import OptimizerSettings
from numpy.typing import NDArray

log = logging.getLogger("curricle")

LOGGED = 80
"""Characters of an answer that stand in the log."""


class Spent:
    """How much of the budget is spent: ``share`` of the limit that is nearest, in [0, 1], after the last batch.

    ``middle`` is the share in the middle of that batch, which sets its learning rate: neither the first step nor the
    last one is made with none. It is a share of ``horizon`` rows where that is given: a run of one epoch then has the
    learning rates, to the last bit, of the first epoch of three. ``scheduled``: that share, after the last batch.
    """

    def __init__(self, budget: Budget, horizon: int | None = None) -> None:
        self._budget, self._horizon = budget, horizon
        self._samples = self._tokens = self._steps = 0
        self.scheduled = self.share = self.middle = 0.0

    def add(self, batch: GlobalBatch, tokens: NDArray[np.int64] | None) -> None:
        self._samples += len(batch.rows)
        self._tokens += 0 if tokens is None else int(tokens[batch.rows].sum())
        self._steps += 1
        self._update()

    def count(self, other: "Spent") -> None:
        """Count what another one has counted, which may be of another budget."""
        self._samples, self._tokens, self._steps = other._samples, other._tokens, other._steps
        self._update()

    def _update(self) -> None:
        budget = self._budget
        pairs = ((self._samples, budget.samples), (self._tokens, budget.tokens), (self._steps, budget.steps))
        self.share = max(spent / limit for spent, limit in pairs if limit)
        before, self.scheduled = self.scheduled, self._samples / self._horizon if self._horizon else self.share
        self.middle = (before + self.scheduled) / 2


def extension_in_words(budgets: Sequence[Budget], spent: Spent, how: OptimizerSettings) -> Iterator[str]:
    """What a larger budget, the last one, means for a run that has made steps with a smaller one."""
    *_, before, now = budgets
    sizes = f"{before.described} to {now.described}"
    yield f"extended from {sizes}: the order goes on; a batch ends where the smaller budget does"
    then = Spent(before, how.horizon)
    then.count(spent)
    rates = learning_rate(how, then.scheduled), learning_rate(how, spent.scheduled)
    if how.horizon:
        yield f"the learning rate goes on at {rates[1]:.2e}: --optimizer.horizon spans it, whatever the budget"
    else:
        yield (
            f"the learning rate ({how.schedule} over the budget) had come to {rates[0]:.2e} and goes on at "
            f"{rates[1]:.2e}; a run with the larger budget from its start, or with --optimizer.horizon, would have "
            "had others so far"
        )


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


class TimeLeft:
    """Until when a run takes, by its last steps: not by the start-up, and with the probes and evaluations of late."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, float]] = deque(maxlen=10)

    def seconds_left(self, seconds: float, share: float) -> float | None:
        """``share`` of the budget is spent at this time of a clock. None before there is something to go by."""
        self._looks.append((seconds, share))
        began, before = self._looks[0]
        return (1 - share) * (seconds - began) / (share - before) if share > before else None


class Reporter:
    """What a run says of its steps, probes and evaluations, in the log and in its metrics.

    ``totals``: what training has cost so far, which a checkpoint keeps. Every process keeps them, and the first one,
    which alone has ``metrics``, writes.
    """

    def __init__(
        self,
        student: Student,
        processes: Processes,
        metrics: Metrics | None,
        totals: dict[str, float],
        peak: float | None,
    ) -> None:
        """``peak``: FLOP/s that one device could do, None where that is not known."""
        self._student, self._processes, self._metrics, self._peak = student, processes, metrics, peak
        self.totals, self.window = totals, Window(processes.device)
        self._time = TimeLeft()

    def steps(self, step: int, stage: Stage, share: float) -> None:
        """A line for the steps since the last one. Here the host waits for the device."""
        window, totals = self.window, self.totals
        seconds, (nll, norm) = window.read(self._processes)
        flops = self._student.flops(window.size, backward=True)
        new = {
            "samples": window.samples,
            "tokens": window.size.tokens,
            "scored": window.size.scored,
            "flops": flops,
            "seconds": seconds,
        }
        for name, value in new.items():
            totals[name] = totals.get(name, 0) + value
        loss = nll / window.size.scored if window.size.scored else None
        rate = window.size.tokens / seconds
        mfu = flops / seconds / self._peak / self._processes.world if self._peak else None
        self.window = Window(self._processes.device)
        if not self._metrics:
            return
        left = self._time.seconds_left(time.perf_counter(), share)
        self._metrics.write(
            "train",
            step,
            loss=loss,
            lr=window.lr,
            gradient_norm=norm,
            tokens_per_second=rate,
            mfu=mfu,
            budget=share,
            seconds_left=left,
            stage=stage.index,
            choice=stage.choice,
            competence=dict(stage.competence),
            **({"weights": dict(stage.weights)} if stage.weights else {}),
            total=dict(totals),
            probes=dict(self._metrics.probes),
        )
        probes = self._metrics.probes["flops"]
        log.info(
            "step %d  %3.0f%%  loss %s  lr %.2e  norm %.2f  %s tokens/s%s%s%s%s",
            step,
            100 * share,
            "none: no token is scored" if loss is None else f"{loss:.4f}",
            window.lr,
            norm,
            f"{rate:,.0f}",
            "" if mfu is None else f"  MFU {mfu:.1%}",
            f"  {stage.choice} (stage {stage.index})" if stage.choice else "",
            f"  probes {probes / totals['flops']:.0%}" if probes else "",
            "" if not left else f"  about {duration(left)} left",
            extra={
                "figures": {
                    **{"step": step, "budget_share": share, "loss": loss, "lr": window.lr, "gradient_norm": norm},
                    **{"tokens_per_second": rate, "mfu": mfu, "seconds_left": left},
                }
            },
        )

    def probe(self, step: int, probe: Probe, size: Size, seconds: float, **remarks: Any) -> None:
        """What a probe cost, and what came of it."""
        self.window.pause(seconds)
        if self._metrics:
            self._metrics.write(
                "probe",
                step,
                index=probe.index,
                what=probe.what.name,
                purpose=probe.purpose,
                tokens=size.tokens,
                scored=size.scored,
                flops=self._student.flops(size, backward=False),
                seconds=seconds,
                **remarks,
            )

    def evaluation(
        self,
        step: int,
        share: float,
        held_out: Mapping[str, HeldOutLoss],
        tuning: Mapping[str, HeldOutLoss],
        seconds: float,
        generations: Mapping[str, Any] | None = None,
    ) -> None:
        """The loss on the held-out rows: ``loss`` and ``row_loss`` are means over the sets.

        ``generations``: answers to held-out prompts, see ``HeldOutAnswers``; ``seconds`` are those of the loss alone.
        One line has both, so that a kill leaves neither without the other.
        """
        self.window.pause(seconds + (generations["seconds"] if generations else 0))
        if not self._metrics:
            return
        loss = macro_mean(each.loss for each in held_out.values())
        tokens = sum(each.tokens for each in held_out.values())
        apart = {"tuning": {name: asdict(each) for name, each in tuning.items()}} if tuning else {}
        self._metrics.write(
            "eval",
            step,
            loss=loss,
            row_loss=macro_mean(each.row_loss for each in held_out.values()),
            tokens=tokens,
            sets={name: asdict(each) for name, each in held_out.items()},
            **apart,
            **({"generations": generations} if generations else {}),
            seconds=seconds,
            budget=share,
            total=dict(self.totals),
            probes=dict(self._metrics.probes),
        )
        by_set = ", ".join(f"{name} {each.loss and f'{each.loss:.4f}'}" for name, each in held_out.items())
        if held_out:
            log.info(
                "step %d  held-out loss %s nats/token over %d tokens%s",
                step,
                loss and f"{loss:.4f}",
                tokens,
                f", the mean of {len(held_out)} sets: {by_set}" if len(held_out) > 1 else "",
                extra={"figures": {"step": step, "held_out_loss": loss, "held_out_tokens": tokens}},
            )
        for name, each in tuning.items():
            log.info("step %d  %s loss %s nats/token over %d tokens", step, name, each.loss, each.tokens)
        if generations:
            log.info("step %d  %s", step, _answers_in_words(generations))

    def calibration(self, step: int, calibration: Calibration) -> None:
        """How well the estimates of a curriculum fit what the student says."""
        if self._metrics:
            self._metrics.write("check", step, **asdict(calibration))

    def summary(self, step: int, summary: Summary) -> None:
        """What the order of the run came to."""
        if self._metrics:
            self._metrics.write("summary", step, **asdict(summary))
            for line in summary.lines():
                log.info("%s", line)
            for line in summary.warnings():
                log.warning("%s", line)

    def close(self) -> None:
        if self._metrics:
            self._metrics.close()


def _answers_in_words(generations: Mapping[str, Any]) -> str:
    """How many there are, what they took, and how the first one begins."""
    answers = generations["answers"]
    texts = [answer["text"] for answer in answers if answer["text"] is not None]
    notes = {answer["note"]: None for answer in answers if answer["note"]}
    first = f"; the first: {printable(texts[0][:LOGGED])}{'…' if len(texts[0]) > LOGGED else ''}" if texts else ""
    without = f"; none to {len(answers) - len(texts)}: {', '.join(notes)}" if notes else ""
    return f"{counted(len(texts), 'answer')} to held-out prompts in {generations['seconds']:.1f} s{without}{first}"
