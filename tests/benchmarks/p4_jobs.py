"""P4: whole jobs with CPU metrics: against their own functions without Beam, on several workers, and their memory.

    python p4_jobs.py METRICS SOURCE OUTPUT    # those functions alone

A job starts, surveys its input, compacts its shards and writes a report; the functions alone do none of that, and what
they import is not timed. One worker and the functions alone have one core: a tokenizer would take them all.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from curricle.curate.progress import NoProgress
from curricle.curate.scoring import notes_of, with_scores
from curricle.pipelines.scoring.cost import survey_limits
from curricle.pipelines.scoring.inputs import find_inputs
from curricle.pipelines.scoring.job import make_job
from curricle.pipelines.scoring.plan import ScoringPlan, survey_inputs
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.transforms.read import read_run
from curricle.pipelines.transforms.shards import shard_runs
from harness import Comparison, Contender, Cost, Finding, Setting, Watch, alternate, usage_of
from jobs import CURRICLE, ONE_CORE, repeated, run, scored

ROWS = 300_000
WARM_UP = 5_000
ROUNDS = 3  # a job takes a minute or two
METRICS = ("mtld", "length,mtld")
FEW, MANY = 100_000, 1_000_000
WORDS = ("apple", "stone", "river", "quick", "paper", "green", "light", "under", "never", "small", "house", "music")


def measure(setting: Setting) -> list[Finding]:
    return [*(each for metrics in METRICS for each in _workers(metrics, setting)), _memory(setting)]


def _workers(metrics: str, setting: Setting) -> list[Finding]:
    path, rows = setting.path / metrics, setting.rows(ROWS)
    path.mkdir()
    sources = [repeated(setting.data, count, setting.path) for count in (min(WARM_UP, rows), rows)]
    options = ("--metrics", metrics)
    alone, one, two, four = alternate(
        _alone(metrics, sources, path / "alone"),
        scored(sources, path / "one", *options, cores=ONE_CORE),
        scored(sources, path / "two", *options, "--workers", "2"),
        scored(sources, path / "four", *options, "--workers", "4"),
        rounds=min(ROUNDS, setting.rounds),
    )
    work = f"curricle score --metrics {metrics}, {rows:,} rows"
    rate = f"{rows * len(one) / sum(one):,.0f} rows/s"
    core = "one worker on one core"
    return [
        Comparison("P4", f"{work}, {core}", "the same functions without Beam", one, alone, 0.8, note=rate),
        Comparison("P4", f"{work}, two workers", core, two, one, 1.7, note=f"{rows * len(two) / sum(two):,.0f} rows/s"),
        Comparison("P4", f"{work}, four workers", core, four, one, None),
    ]


def _alone(metrics: str, sources: list[Path], output: Path) -> Contender:
    def cost(round: int) -> Cost:
        return Cost(*json.loads(run([sys.executable, __file__, metrics, sources[bool(round)], output], ONE_CORE)))

    return cost


def without_beam(metrics: str, source: Path, output: Path) -> None:
    """Read, normalise, compute, and write a Parquet file, shard by shard."""
    settings = ScoreSettings(inputs=(str(source),), output=str(output), metrics=tuple(metrics.split(",")))
    job = make_job(settings)
    files, _ = find_inputs(settings.inputs, settings.output)
    sources = tuple(survey_inputs(files, job.format, job.readers, *survey_limits(job)))
    plan = ScoringPlan(job.fingerprint, job.identity, job.reading, sources)
    with pq.ParquetWriter(output.with_suffix(".parquet"), job.schema, compression="zstd") as writer:
        for each in shard_runs(plan.shards, 1, set()):
            for element in read_run(job, each):
                scores = job.compute(element.examples, NoProgress())
                notes = [*element.notes, *notes_of(scores)]
                writer.write_table(with_scores(element.examples, scores.columns, notes, job.schema))


def _memory(setting: Setting) -> Comparison:
    few, many = (_peak(setting.rows(rows), setting.path) for rows in (FEW, MANY))
    work = f"peak resident size of a job with {setting.rows(MANY):,} rows"
    note = f"{many:,.0f} MiB"
    against = f"with {setting.rows(FEW):,}"
    return Comparison("P4", work, against, [many], [few], 1.15, at_most=True, unit="MiB", note=note)


def _peak(rows: int, path: Path) -> float:
    """Peak resident size, in MiB, of a job in a process of its own."""
    source = path / f"{rows}-short.jsonl"
    draw = random.Random(0)
    with source.open("w", encoding="utf-8") as file:
        for row in range(rows):
            prompt, answer = (" ".join(draw.choices(WORDS, k=draw.randint(3, 30))) for _ in range(2))
            file.write(json.dumps({"instruction": f"{row} {prompt}", "output": answer}) + "\n")
    command = [*CURRICLE, "score", str(source), "--output", str(path / f"{rows}-short"), "--metrics", METRICS[0]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return usage_of(process).bytes / 2**20


if __name__ == "__main__":
    _, names, source, output = sys.argv
    with Watch() as watch:
        without_beam(names, Path(source), Path(output))
    print(json.dumps(watch.cost))
