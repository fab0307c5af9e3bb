"""P10: a job with the default metrics, beside the model alone on the same rows; both whole processes on all cores.

    python p10_default.py SOURCE    # the model alone: read, render, both losses

The job also computes the other metrics, and writes, compacts and signs its table and report.
"""

import json
import sys
from itertools import islice
from pathlib import Path

from alpaca import records
from curricle import curate
from curricle.curate.batch import Batch
from curricle.curate.passes import LOSS, RENDERING, UNCONDITIONAL_LOSS, fill
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import resolve
from harness import Comparison, Finding, Setting, alternate, timed
from jobs import run, scored

ROWS = 200
WARM_UP = 8
ROUNDS = 3


def measure(setting: Setting) -> list[Finding]:
    rows, path = setting.rows(ROWS), setting.path
    sources = []
    for count in WARM_UP, rows:
        sources.append(path / f"{count}.jsonl")
        lines = map(json.dumps, islice(records(setting.data), count))
        sources[-1].write_text("".join(f"{line}\n" for line in lines))
    job, alone = alternate(
        scored(sources, path / "job"),
        timed(lambda round: run([sys.executable, __file__, sources[bool(round)]])),
        rounds=min(ROUNDS, setting.rounds),
    )
    work = f"curricle score, its default metrics, {rows} Alpaca rows, SmolLM2-135M, float32"
    return [Comparison("P10", work, "the backend alone, in a process", job, alone, 0.95)]


def both_losses(source: Path) -> None:
    settings = ProxySettings()
    weights = resolve(settings.model)
    renderer, backend = Renderer(weights, settings), load(settings, weights)
    examples, _ = curate.read(source)
    batch = RENDERING.fill(Batch(examples), renderer, lambda rows: None)
    fill([LOSS, UNCONDITIONAL_LOSS], batch, backend, lambda tokens: None)


if __name__ == "__main__":
    both_losses(Path(sys.argv[1]))
