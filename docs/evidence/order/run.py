"""Does an order help a small pretrained model? The whole experiment; the same command goes on where it was stopped.

    python docs/evidence/order/run.py DATA OUTPUT [--size small] [--jobs 2]

DATA holds the public files that order.md names. Every step is a function of Curricle that resumes or is already done.
"""

import argparse
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from curricle import pipelines, train
from results import write_results
from student import CONTEXT, write_student
from texts import SOURCES, draw, pretraining

ARMS = (
    "random",
    "campus",
    "campus?probe=exact",
    "easy_to_hard?by=loss",
    "hard_to_easy?by=loss",
)
COMMON = {"template": "plain", "max_length": CONTEXT, "device": {"precision": "bf16"}}


@dataclass(frozen=True)
class Size:
    """How much of everything; the split shares are of the rows drawn from each source."""

    drawn: int = 1300
    judging: int = 200
    tuning: int = 50
    subset: int = 2000
    most_words: int = 120
    vocabulary: int = 4096
    width: int = 128
    layers: int = 4
    pretraining_words: int = 200
    pretraining_steps: int = 1000
    pretraining_held_out: int = 200
    batch: int = 16
    every: int = 32
    seeds: int = 5
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    arms: tuple[str, ...] = ARMS


FULL = Size()
SMALL = Size(
    drawn=40,
    judging=3,
    tuning=1,
    subset=24,
    vocabulary=300,
    width=32,
    layers=1,
    pretraining_words=30,
    pretraining_steps=2,
    pretraining_held_out=8,
    batch=4,
    every=4,
    seeds=2,
    rates=(1e-3, 1e-2),
    arms=("random", "campus"),
)


def prepare_rows(data: Path, size: Size) -> None:
    """Draw rows, and split them by near-duplicate group before any is scored: ``sets/``, ``judging/``, ``tuning/``."""
    files = [Path("rows", f"{source}.jsonl") for source in SOURCES]
    for source, file in zip(SOURCES, files, strict=True):
        if not file.exists():
            examples = draw(data, source, size.drawn, size.most_words, seed=0)
            _write(file, ({"prompt": one.prompt, "response": one.response} for one in examples))
    pipelines.score(files, "all", metrics=["length"])
    shares = {"pool": 0.7, "tuning": 0.1, "judging": 0.2}
    pipelines.split("all", "sets", shares, by="near_duplicates", threshold=0.5)
    for use, count in (("judging", size.judging), ("tuning", size.tuning)):
        for source, file in zip(SOURCES, files, strict=True):
            where = f"source == '{file}'"
            pipelines.select(f"sets/{use}", f"{use}/{source}", where=where, take="random", count=count)


def prepare_student(data: Path, size: Size) -> Path:
    """Pretrain a small Llama on other texts of Alpaca and T0, and return its directory."""
    texts = Path("pretraining.jsonl")
    if not texts.exists():
        rows = [example for source in SOURCES for example in draw(data, source, size.drawn, size.most_words, seed=0)]
        kept, left_out = pretraining(data, rows, size.pretraining_words, seed=0)
        _write(texts, ({"messages": [{"role": "assistant", "content": text}]} for text in kept))
        print(f"{len(kept):,} texts to pretrain on; left out {left_out}")
    if not (Path("initial", "config.json")).exists():
        lines = (json.loads(line) for line in texts.open(encoding="utf-8"))
        words = (line["messages"][0]["content"] for line in lines)
        write_student(Path("initial"), words, size.vocabulary, size.width, size.layers)
    pipelines.score(texts, "pretraining", metrics=["length"])
    return train.run(
        "pretraining",
        model="initial",
        output="pretrained",
        curriculum="random",
        **COMMON,
        batch={"size": 32, "tokens": 4096},
        budget={"steps": size.pretraining_steps},
        optimizer={"lr": 4e-3, "floor": 0.1},
        eval={"rows": size.pretraining_held_out, "every": 500},
        checkpoint={"every": 100},
    )


def _write(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    """JSON lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    partial.replace(path)


def score_pool(student: Path) -> int:
    """The pool with the columns that the orders sort by, and the tokens that took; the loss is the student's own."""
    proxy = {"model": str(student), "template": "plain", "max_length": CONTEXT}
    return pipelines.add("sets/pool", ["mtld", "loss"], output="pool", proxy=proxy).cost.tokens


def compare(student: Path, scoring_tokens: int, size: Size, jobs: int) -> None:
    """Every order with every learning rate and one seed, then with its best rate and all seeds."""
    train.compare(
        "pool",
        model=str(student),
        output="compared",
        arms=size.arms,
        seeds=size.seeds,
        learning_rates=size.rates,
        average="row",
        subset=size.subset,
        scoring_tokens=scoring_tokens,
        jobs=jobs,
        **COMMON,
        batch={"size": size.batch, "tokens": 4096},
        eval={
            "data": {source: f"judging/{source}" for source in SOURCES},
            "tuning": {source: f"tuning/{source}" for source in SOURCES},
            "every": size.every,
        },
        checkpoint={"every": 0, "keep": 1},
    )


def compare_stages(size: Size) -> dict[str, bool]:
    """By seed, whether random order in CAMPUS's stages has the batches of random order, so that it is the same run.

    A batch never spans stages. Where they are whole batches, how CAMPUS cuts its orders is worth nothing by itself.
    """

    def batches(curriculum: str, seed: int) -> pl.DataFrame:
        output = f"stages/{curriculum}-{seed}"
        train.plan("pool", output, curriculum=curriculum, seed=seed, batch={"size": size.batch}, subset=size.subset)
        return pl.read_parquet(f"{output}/plan.parquet").select("step", "position", "row")

    return {f"{seed}": batches("random", seed).equals(batches("random_stages", seed)) for seed in range(size.seeds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of public files")
    parser.add_argument("output", type=Path, help="where everything is written")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="small: a trial of a minute")
    parser.add_argument("--seeds", type=int, help="how many seeds each order gets, instead of what the size says")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    options = parser.parse_args()
    size = {"full": FULL, "small": SMALL}[options.size]
    size = replace(size, seeds=options.seeds or size.seeds)
    data = options.data.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    os.chdir(options.output)  # sources are named by their paths: rows/alpaca.jsonl, wherever the folder lies
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepare_rows(data, size)
    student = prepare_student(data, size)
    scoring_tokens = score_pool(student)
    compare(student, scoring_tokens, size, options.jobs)
    tables = {"pool": Path("pool")}
    tables |= {f"{use}-{source}": Path(use, source) for use in ("judging", "tuning") for source in SOURCES}
    write_results(Path("compared"), tables, compare_stages(size), Path("results"))


if __name__ == "__main__":
    main()
