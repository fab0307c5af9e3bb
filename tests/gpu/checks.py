"""What a check on a device is: lines of one table, some with a verdict, and the sizes of the work."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]


@dataclass(frozen=True)
class Line:
    """One line of the table. ``met``: whether the value is within its bound; None where it is a measurement.

    ``figures``: more numbers, for the JSON alone.
    """

    what: str
    value: float | str
    unit: str = ""
    bound: str = ""
    met: bool | None = None
    note: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """How much work the checks do. Lengths and passes are in tokens."""

    rows: int  # of the sample
    length: int  # of a long row
    sequences: int  # long rows in a measurement
    steps: int  # of a training run
    pass_tokens: int  # of a training pass
    batch: int  # rows in an optimizer step
    rounds: int  # of a measurement
    edge: int  # of the matrices whose product is timed


SCALES = {
    "full": Scale(80, 2048, 64, 6, 16384, 12, 3, 8192),
    "tiny": Scale(8, 96, 3, 4, 256, 4, 1, 128),
}


@dataclass(frozen=True)
class Context:
    """Where a check runs: ``cuda`` or ``cpu``. ``output``: the folder of the results, with a folder of its own."""

    device: str
    scale: Scale
    output: Path
    name: str

    @cached_property
    def work(self) -> Path:
        """An empty folder of this check."""
        directory = self.output / "work" / self.name
        directory.mkdir(parents=True)
        return directory

    @cached_property
    def model(self) -> str:
        """SmolLM2-135M; a random model of two layers with its tokenizer where the work is tiny."""
        if self.scale is SCALES["full"]:
            return "smollm2-135m"
        from curricle.curate.proxy.weights import resolve
        from small_llama import write_small_llama, write_small_tokenizer

        directory = self.work / "model"
        tokenizer = write_small_tokenizer(directory, resolve("smollm2-135m").directory)
        write_small_llama(directory, tokenizer, initializer_range=0.2, num_key_value_heads=2, head_dim=32)
        return str(directory)

    def limit(self, name: str) -> float | None:
        """TFLOP/s of a matrix product, as the check ``limits`` has measured them before; None where it has not."""
        measured = (line["figures"] for line in lines_of(self.output / "limits.jsonl"))
        return next((figures["tflops"] for figures in measured if figures.get("name") == name), None)


@dataclass(frozen=True)
class Check:
    """``function`` of ``module`` gives the lines; it has so many seconds on a machine with a GPU."""

    module: str
    function: str
    seconds: int


CHECKS = {
    "limits": Check("limits", "limits", 50),
    "scores": Check("scores", "scores", 100),
    "half": Check("scores", "half", 60),
    "scoring-speed": Check("speed", "scoring", 150),
    "training": Check("training", "training", 100),
    "training-speed": Check("speed", "training", 150),
    "memory": Check("scores", "memory", 60),
    "resume": Check("training", "resume", 110),
    "processes": Check("processes", "processes", 80),
    "vllm": Check("scores", "vllm", 120),
    "vllm-speed": Check("speed", "vllm", 150),
}
"""The most important ones first. Together they may take longer than all have; what is left over is not begun."""

PARTS = {"reference": Check("scores", "reference", 0)}
"""What a check runs in another process."""


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_lines(context: Context, lines: Iterator[Line]) -> None:
    """One JSON object a line, each as soon as it is there: what is stopped later has left what came before."""
    with (context.output / f"{context.name}.jsonl").open("w") as file:
        for line in lines:
            file.write(json.dumps(asdict(line)) + "\n")
            file.flush()


def function_of(check: Check) -> Callable[[Context], Iterator[Line]]:
    for path in (HERE, HERE.parent):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    function: Callable[[Context], Iterator[Line]] = getattr(__import__(check.module), check.function)
    return function


def hide_devices() -> None:
    """From here on this process has a CPU alone."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
