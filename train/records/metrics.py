"""What a run reports: one JSON object a line, and the same to TensorBoard or another tracker."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curricle.schemas.common.disk import write_whole
from curricle.schemas.common.errors import UsageError
from curricle.schemas.sealed import lines_of, sealed, unsealed
from curricle.train.settings import LogSettings

METRICS = "metrics.jsonl"


class Metrics:
    """``metrics.jsonl`` of a run. On a resume, what came after the checkpoint is dropped; it is about to come again.

    The cost of probes stays: their decisions are replayed, not made again.
    """

    def __init__(self, run: Path, step: int, settings: LogSettings) -> None:
        self._path = run / METRICS
        lines = [line for line in read_metrics(run) if line["step"] <= step or line["kind"] == "probe"]
        write_whole(self._path, "".join(map(_to_line, lines)))
        self.probes = {
            key: sum(line[key] for line in lines if line["kind"] == "probe") for key in ("tokens", "flops", "seconds")
        }
        self._board = _tensorboard(run, step) if settings.tensorboard else None
        self._tracker = _tracker(settings.tracker, run) if settings.tracker else None

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Add a line. ``step`` is the number of optimizer steps done; nested values stay in the file alone."""
        with self._path.open("a") as file:
            file.write(_to_line({"kind": kind, "step": step, **values}))
        if kind == "probe":
            for key in self.probes:
                self.probes[key] += values[key]
        flat = {f"{kind}/{name}": value for name, value in _flatten(values) if isinstance(value, int | float)}
        if self._board is not None:
            for name, value in flat.items():
                self._board.add_scalar(name, value, step)
        if self._tracker is not None:
            self._tracker.log(flat, step=step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
        if self._tracker is not None:
            self._tracker.finish()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run so far; one that a kill cut short is left out. UsageError if one is not as it was written."""
    path = run / METRICS
    try:
        return [_line(number, line) for number, line in enumerate(lines_of(path), 1)]
    except ValueError as error:
        raise UsageError(
            str(error),
            where=str(path),
            remedy="restore the file; or remove it, and what the run has reported so far is gone with it",
        ) from error


def _to_line(record: Mapping[str, Any]) -> str:
    return sealed(json.dumps(record)) + "\n"


def _line(number: int, line: bytes) -> dict[str, Any]:
    try:
        record = unsealed(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(record.get("kind"), str) or not isinstance(record.get("step"), int):
        raise ValueError(f"line {number}: it has no kind or no step")
    return record


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        pairs += _flatten(value, f"{prefix}{name}/") if isinstance(value, Mapping) else [(prefix + name, value)]
    return pairs


def _tensorboard(run: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)


def _tracker(name: str, run: Path) -> Any:
    """One of accelerate's trackers: a maintained adapter to wandb, trackio, mlflow, comet, aim, clearml and others."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    cls = LOGGER_TYPE_TO_CLASS[name]
    tracker = cls(run.name, logging_dir=str(run)) if cls.requires_logging_directory else cls(run.name)
    tracker.start()
    return tracker
