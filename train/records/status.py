"""What `curricle-train status` says of a run: read from its directory alone, without torch."""

import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from curricle.schemas.common.command import State
from curricle.schemas.common.log import duration
from curricle.train.records.checkpoints import checkpoints, step_of
from curricle.train.records.metrics import read_metrics
from curricle.train.records.run_json import no_run, read_description


@dataclass(frozen=True)
class RunStatus:
    """How a run stands.

    ``state``: done; running; stopped, with every step saved that was reported; dead, where reported steps are lost.
    ``step``: the last that was reported, and ``saved`` the last of a checkpoint. ``budget_share``: how much of
    the budget is spent, from 0 to 1. ``seconds_left``: of a running one alone, by its last steps.
    """

    directory: str
    state: State
    step: int
    saved: int
    budget_share: float
    loss: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None

    def to_json(self) -> str:
        """One object, all in one line."""
        return json.dumps(asdict(self))

    def lines(self) -> Iterator[str]:
        loss = "" if self.loss is None else f", loss {self.loss:.4f}"
        yield f"{self.directory}: {self.state}, step {self.step:,}, {self.budget_share:.0%} of the budget{loss}"
        if self.state == "running":
            rate = "" if self.tokens_per_second is None else f"{self.tokens_per_second:,.0f} tokens/s"
            left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
            yield f"{rate or 'it has not reported yet'}{left}"
        elif self.state != "done":
            yield f"nobody works on it; the same command goes on from step {self.saved:,}"


def status_of_run(run: Path) -> RunStatus:
    """How a run stands. UsageError where there is none."""
    description = read_description(run)
    if not description:
        raise no_run(run)
    lines = [line for line in read_metrics(run) if line["kind"] == "train"]
    saved = max(map(step_of, checkpoints(run)), default=0)
    last = lines[-1] if lines else {}
    step, budget = max(last.get("step", 0), saved), float(last.get("budget", 0.0))
    if description.get("finished") is not None:
        return RunStatus(str(run), "done", step, saved, 1.0, last.get("loss"))
    if not is_held(run):
        return RunStatus(str(run), "stopped" if saved == step else "dead", step, saved, budget, last.get("loss"))
    rate, left = last.get("tokens_per_second"), last.get("seconds_left")
    return RunStatus(str(run), "running", step, saved, budget, last.get("loss"), rate, left)


def is_held(run: Path) -> bool:
    """Whether a process trains there: it holds a lock of the kernel's, which goes with it."""
    try:
        with (run / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
