"""P4: a whole job with a CPU metric: against its own functions without Beam, on two workers, and its memory.

A job starts, surveys its input, compacts its shards and writes a report; the functions alone do none of that, and what
they import is not timed.
"""

import json
import os
import random
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path

import pyarrow.parquet as pq
from alpaca import FILE
from curricle.curate.batch import Batch
from curricle.curate.metric import measure as compute
from curricle.curate.scoring import notes_of, with_scores
from curricle.pipelines.scoring.cost import survey_limits
from curricle.pipelines.scoring.inputs import find_inputs
from curricle.pipelines.scoring.job import make_job
from curricle.pipelines.scoring.plan import ScoringPlan, survey_inputs
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.transforms.read import read_run
from curricle.pipelines.transforms.shards import shard_runs
from harness import Comparison, Contender, alternate, timed

ROWS = 300_000
WARM_UP = 5_000
METRIC = "mtld"
FEW, MANY = 100_000, 1_000_000
WORDS = ("apple", "stone", "river", "quick", "paper", "green", "light", "under", "never", "small", "house", "music")


def measure(path: Path, data: Path) -> list[Comparison]:
    inputs = {rows: _repeated(data / FILE, rows, path) for rows in (WARM_UP, ROWS)}

    def contender(work) -> Contender:
        return timed(lambda round: work(inputs[ROWS if round else WARM_UP], path / f"{work.__name__}-{round}"))

    alone, one, two = alternate(*map(contender, (_without_beam, _one_worker, _two_workers)))
    few, many = (_peak(rows, path) for rows in (FEW, MANY))
    work, rate = f"curricle score --metrics {METRIC}, {ROWS:,} rows", f"{ROWS * len(one) / sum(one):,.0f} rows/s"
    memory = f"peak resident size of a job with {MANY:,} rows"
    return [
        Comparison("P4", f"{work}, one worker", "the same functions without Beam", one, alone, 0.8, note=rate),
        Comparison("P4", f"{work}, two workers", "one worker", two, one, 1.7),
        Comparison(
            "P4", memory, f"with {FEW:,}", [many], [few], 1.15, at_most=True, unit="MiB", note=f"{many:,.0f} MiB"
        ),
    ]


def _one_worker(source: Path, output: Path) -> None:
    subprocess.run(_command(source, output), check=True, capture_output=True)


def _two_workers(source: Path, output: Path) -> None:
    subprocess.run([*_command(source, output), "--workers", "2"], check=True, capture_output=True)


def _command(source: Path, output: Path) -> list[str]:
    command = [sys.executable, "-P", "-m", "curricle.pipelines.cli", "score", str(source), "--output", str(output)]
    return [*command, "--metrics", METRIC, "--max-reject-fraction", "1"]


def _without_beam(source: Path, output: Path) -> None:
    """Read, normalise, compute, and write a Parquet file, shard by shard."""
    settings = ScoreSettings(inputs=(str(source),), output=str(output), metrics=(METRIC,))
    job = make_job(settings)
    files, _ = find_inputs(settings.inputs, settings.output)
    sources = tuple(survey_inputs(files, job.format, job.readers, *survey_limits(job)))
    plan = ScoringPlan(job.fingerprint, job.identity, job.reading, sources)
    with pq.ParquetWriter(output.with_suffix(".parquet"), job.schema, compression="zstd") as writer:
        for run in shard_runs(plan.shards, 1, set()):
            for element in read_run(job, run):
                scores = compute(Batch(element.examples), job.metrics)
                notes = [*element.notes, *notes_of(scores)]
                writer.write_table(with_scores(element.examples, scores.columns, notes, job.schema))


def _repeated(file: Path, rows: int, path: Path) -> Path:
    result = path / f"{rows}.jsonl"
    with file.open(encoding="utf-8") as lines, result.open("w", encoding="utf-8") as output:
        output.writelines(islice(cycle(lines), rows))
    return result


def _peak(rows: int, path: Path) -> float:
    """Peak resident size, in MiB, of a job in a process of its own."""
    source = path / f"{rows}-short.jsonl"
    draw = random.Random(0)
    with source.open("w", encoding="utf-8") as file:
        for row in range(rows):
            prompt, answer = (" ".join(draw.choices(WORDS, k=draw.randint(3, 30))) for _ in range(2))
            file.write(json.dumps({"instruction": f"{row} {prompt}", "output": answer}) + "\n")
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(_command(source, path / f"{rows}-short"), stdout=nowhere, stderr=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss / 1024
