"""Does a small model's choice transfer? Learning percentages beside published ones, and a model trained on the choice.

    python docs/evidence/transfer/run.py --output DIR

goes on where it was stopped; a step that is done is not done again. ``--part correlation`` leaves out the training.
docs/evidence/transfer.md says what it measures, and what came of it.
"""

import argparse
import json
import logging
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import transfer_figures as figures
from curricle import pipelines, train

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
SHARE, EPOCHS = 0.1, 3
"""What part of the rows is trained on, and how often on average, in the tokens of a random choice."""
CANDIDATES = 0.75
"""The share of the rows, drawn for each seed, that every arm of that seed chooses from."""
BATCH, MAX_LENGTH, TEMPLATE = 32, 512, "alpaca"
FIELDS = ("instruction", "input", "output")
BASELINE = "random"
GRADED = "1k_score"
"""The thousand rows that a model graded best; the other set is of the longest responses."""
ALPACA_INDEX = pl.col("extra").str.json_path_match("$.alpaca_index").cast(pl.Int64).alias("alpaca_index")
log = logging.getLogger("curricle")


class Experiment:
    """The steps of one experiment in a directory, each remembered by the JSON that it returns."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.output = options, options.output.resolve()
        self.results = (options.results or self.output / "results").resolve()
        for folder in (self.output / "steps", self.results):
            folder.mkdir(parents=True, exist_ok=True)
        free = {"output", "results", "part", "published", "alpaca", "seeds", "resamples", "shard_rows"}
        own = {key: value for key, value in vars(options).items() if key not in free}
        if (before := self.step("settings", lambda: own)) != own:
            raise SystemExit(f"{self.output} was begun with {before}, not {own}: name another --output")
        self.selector = {"model": options.selector, "template": TEMPLATE, "max_length": MAX_LENGTH}
        self.target = {**self.selector, "model": options.target}

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        """What a step came to: read, if it is done, else done now. It stands there whole or not at all."""
        path = self.output / "steps" / f"{name}.json"
        if not path.exists():
            log.info("step %s", name)
            write_json(path, work())
        return json.loads(path.read_text())

    def rows(self) -> dict[str, int]:
        """Write the rows with published perplexities that are drawn."""
        options = self.options
        published = pl.read_parquet(options.published).filter(pl.col("text_exact")).sort("alpaca_index")
        if options.pool == "graded":
            published = published.filter(pl.col("anchor_set") == GRADED)
        if options.rows and options.rows < len(published):
            drawn = random.Random(options.draw).sample(range(len(published)), options.rows)
            published = published[sorted(drawn)]
        pool = published.select("alpaca_index", *FIELDS).to_dicts()
        write_lines(self.output / "pool.jsonl", pool)
        return {"rows": len(pool)}

    def unseen(self) -> dict[str, int]:
        """Write other rows, to judge by: none has an instruction of those with published perplexities.

        They are more than are wanted, because those that are nearly the same as others will be dropped.
        """
        options = self.options
        instructions = pl.read_parquet(options.published)["instruction"].to_list()
        there = {" ".join(text.lower().split()) for text in instructions}
        others = [
            {key: row.get(key, "") for key in FIELDS}
            for row in read_lines(options.alpaca)
            if row["output"].strip() and " ".join(row["instruction"].lower().split()) not in there
        ]
        drawn = random.Random(options.draw).sample(others, min(len(others), 2 * options.held_out))
        write_lines(self.output / "unseen.jsonl", drawn)
        return {"rows": len(drawn)}

    def lp(self, table: str, name: str, proxy: dict[str, Any], epochs: int) -> dict[str, Any]:
        """Add learning percentages to a table, by the authors' settings, and drop the weights of the training."""
        options, output = self.options, self.output / name
        pipelines.lp(
            self.output / table,
            output,
            epochs=epochs,
            proxy=proxy,
            train={"device.precision": options.precision, "batch.tokens": "1024", "log.every": "1"},
            shard_rows=options.shard_rows,
        )
        shutil.rmtree(output / "training" / "checkpoints", ignore_errors=True)
        return {"table": name}

    def correlation(self) -> dict[str, Any]:
        """Learning percentages of the small model on the drawn rows, beside the published ones of larger models."""
        options, output = self.options, self.output
        self.step("rows", self.rows)
        proxy, shard_rows = self.selector, options.shard_rows

        def score() -> dict[str, Any]:
            table = output / "pool"
            pipelines.score(output / "pool.jsonl", table, metrics=["length"], proxy=proxy, shard_rows=shard_rows)
            return {"table": "pool"}

        def add() -> dict[str, Any]:
            metrics, more = ["loss", "ifd", "embedding"], {"shard_rows": shard_rows}
            pipelines.add(output / "learned", metrics, output / "rich", proxy=proxy, embedding=options.encoder, **more)
            return {"table": "rich"}

        def cluster() -> dict[str, Any]:
            # a cluster for 52 rows, as the authors have 1,000 for 52,002
            count = max(2, round(len(columns(output / "rich", "example_id")) / 52))
            pipelines.cluster(output / "rich", output / "clustered", k=count)
            return {"table": "clustered", "k": count}

        self.step("score", score)
        self.step("learned", lambda: self.lp("pool", "learned", proxy, options.epochs))
        self.report_correlation("learned")
        self.step("rich", add)
        self.step("clustered", cluster)
        return self.report_correlation("clustered")

    def report_correlation(self, table: str) -> dict[str, Any]:
        """Write what is there: ids and numbers, no texts."""
        options = self.options
        frame = read_table(self.output / table)
        names = [*ours(frame), *({"cluster"} & set(frame.columns))]
        rows = frame.select(ALPACA_INDEX, "response_tokens", *names).sort("alpaca_index")
        rows.write_parquet(self.results / "rows.parquet")
        published = pl.read_parquet(options.published).select("alpaca_index", "^opt-.*$")
        result = figures.correlation(rows, published, options.name, options.resamples)
        write_json(self.results / "correlation.json", result)
        figures.correlation_picture(result, "lp_app", self.results / "correlation.png")
        for column in figures.COLUMNS:
            if column in rows.columns:
                for table in (figures.correlation_table, figures.partial_table):
                    print(*table(result, column), sep="\n", end="\n\n")
        return result

    def reference(self) -> dict[str, Any]:
        """The same figures for the smallest published model, on all rows and on graded ones: no model is run."""
        output, options = self.output, self.options

        def score() -> dict[str, Any]:
            rows = pl.read_parquet(options.published).filter(pl.col("text_exact")).sort("alpaca_index")
            write_lines(output / "published.jsonl", rows.select("alpaca_index", *FIELDS).to_dicts())
            pipelines.score(output / "published.jsonl", output / "published", metrics=["length"], proxy=self.selector)
            return {"table": "published"}

        self.step("published", score)
        frame = read_table(output / "published").select(ALPACA_INDEX, "response_tokens")
        smallest, *larger = figures.PUBLISHED
        published = pl.read_parquet(options.published)
        before, *both = (pl.col(f"{smallest}__{ending}") for ending in ("P0", *figures.COLUMNS.values()))
        learned = dict(zip(figures.COLUMNS, both, strict=True))
        ours = frame.join(published.select("alpaca_index", ppl_epoch_0=before, **learned), on="alpaca_index")
        theirs = published.select("alpaca_index", *[f"^{size}__.*$" for size in larger])
        graded = published.filter(pl.col("anchor_set") == GRADED).select("alpaca_index")
        return {
            pool: figures.correlation(rows, theirs, figures.PUBLISHED[smallest], options.resamples)
            for pool, rows in (("all", ours), ("graded", ours.join(graded, on="alpaca_index")))
        }

    def held_out(self) -> dict[str, Any]:
        """Rows that nothing was trained on, nor anything nearly the same."""
        both = self.output / "both"
        files = [self.output / "pool.jsonl", self.output / "unseen.jsonl"]  # in this order: those of the pool are kept
        pipelines.score(files, both, metrics=["length"], proxy=self.target, shard_rows=self.options.shard_rows)
        pipelines.select(both, self.output / "unlike", near_duplicates=0.8)
        unlike = self.output / "unlike"
        sources = [name for name in columns(unlike, "source") if name.endswith("unseen.jsonl")]
        count, where = min(self.options.held_out, len(sources)), f"source == {sources[0]!r}"
        pipelines.select(unlike, self.output / "held-out", where=where, take="random", count=count)
        return {"rows": count}

    def untrained(self) -> dict[str, float]:
        """The loss of the untrained model on the rows for judging, in nats per token."""
        output = self.output / "untrained"
        pipelines.add(self.output / "held-out", ["loss"], output, proxy=self.target, shard_rows=self.options.shard_rows)
        losses = read_table(output).select("loss", "loss_tokens").drop_nulls()
        return {"loss": float((losses["loss"] * losses["loss_tokens"]).sum() / losses["loss_tokens"].sum())}

    def training(self) -> dict[str, Any]:
        """Train the target on what each arm chooses, at one budget of tokens and steps; judge all on the same rows."""
        output, options = self.output, self.options
        self.step("unseen", self.unseen)
        self.step("held-out", self.held_out)

        def score() -> dict[str, Any]:
            inputs, more = output / "pool.jsonl", {"shard_rows": options.shard_rows}
            pipelines.score(inputs, output / "target-pool", metrics=["length"], proxy=self.target, **more)
            chosen = read_table(output / "clustered").select("example_id", "cluster", selector_lp_app="lp_app")
            chosen.unique("example_id").write_parquet(output / "selector.parquet")
            return {"rows": len(chosen)}

        self.step("target-score", score)
        self.step("target-learned", lambda: self.lp("target-pool", "target-learned", self.target, 1))
        untrained = self.step("untrained", self.untrained)
        lines = []
        for seed in range(options.seeds):
            for arm in self.arms(seed):
                came_to = self.step(f"run-{seed}-{slug(arm)}", partial(self.run, seed, arm))
                lines.append({"seed": seed, "arm": arm, **came_to})
        frame = pl.DataFrame(lines)
        frame.write_parquet(self.results / "runs.parquet")
        result = {"untrained": untrained["loss"], **figures.training(frame, BASELINE)}
        write_json(self.results / "training.json", result)
        figures.comparison_picture(result, BASELINE, self.results / "training.png")
        for average in figures.AVERAGES:
            print(*figures.comparison_table(result, BASELINE, average), sep="\n", end="\n\n")
        return result

    def arms(self, seed: int) -> dict[str, dict[str, Any]]:
        """How each arm takes its share of the candidates; learning percentages as their authors do, in each cluster."""
        low = {"take": "low", "per": "cluster", "fraction": SHARE}
        return {
            f"LP_app of {self.options.name}": {**low, "by": "selector_lp_app"},
            "its own LP_app": {**low, "by": "lp_app"},
            "longest": {"take": "high", "by": "response_tokens", "fraction": SHARE},
            "random by cluster": {"take": "random", "per": "cluster", "fraction": SHARE, "seed": seed},
            BASELINE: {"take": "random", "fraction": SHARE, "seed": seed},
        }

    def run(self, seed: int, arm: str) -> dict[str, Any]:
        """Choose, train, judge. The budget is that of a random choice: as many tokens, and as many steps."""
        output, options = self.output, self.options
        candidates, join = output / f"candidates-{seed}", [output / "selector.parquet"]
        draw = {"take": "random", "fraction": CANDIDATES, "seed": seed}
        pipelines.select(output / "target-learned", candidates, join=join, **draw)
        chosen, directory = (output / f"{kind}-{seed}-{slug(arm)}" for kind in ("chosen", "run"))
        pipelines.select(candidates, chosen, **self.arms(seed)[arm])
        lengths, all_lengths = (columns(table, "response_tokens") for table in (chosen, candidates))
        budget = round(EPOCHS * SHARE * sum(all_lengths))
        steps = EPOCHS * -(-round(SHARE * len(all_lengths)) // BATCH)
        an_epoch = max(1, round(steps * sum(lengths) / budget))
        checkpoint = train.run(
            chosen,
            options.target,
            directory,
            template=TEMPLATE,
            max_length=MAX_LENGTH,
            curriculum="random",
            seed=seed,
            budget={"tokens": budget},
            batch={"size": -(-len(lengths) // an_epoch), "tokens": 1024},
            optimizer={"lr": options.lr, "beta2": 0.999},
            device={"precision": options.precision},
            eval={"data": {"alpaca": output / "held-out"}},
            checkpoint={"every": 4, "keep": 1},
            log={"every": 1},
        )
        (last,) = [line for line in read_lines(directory / "metrics.jsonl") if line["kind"] == "eval"][-1:]
        shutil.rmtree(checkpoint.parent)  # 3 GB of weights and optimizer that nothing reads any more
        return {
            "loss": last["loss"],
            "row_loss": last["row_loss"],
            "rows": len(lengths),
            "tokens": int(last["total"]["scored"]),
            "steps": int(last["step"]),
            "visits": int(last["total"]["samples"]),
        }


def ours(frame: pl.DataFrame) -> list[str]:
    """The columns of a table that the correlation reads, as far as they are there."""
    wanted = ("lp_1", "lp_app", "ifd_ppl_ratio")
    return [name for name in frame.columns if name in wanted or name.startswith("ppl_epoch_")]


def slug(arm: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in arm.lower())


def read_table(table: Path) -> pl.DataFrame:
    return pl.read_parquet(table / "data" / "*.parquet")


def columns(table: Path, name: str) -> list[Any]:
    """The values of a column of a table that are not null."""
    return read_table(table)[name].drop_nulls().to_list()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Whole, or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = result.add_argument
    add("--output", type=Path, required=True, help="directory of the experiment; the same command goes on there")
    add("--results", type=Path, help="directory for figures and pictures; left out: results in --output")
    add("--part", choices=["correlation", "all"], default="all", help="whether the target is trained as well")
    add("--published", type=Path, default=SHARED / "oracles" / "alpaca_published_perplexities.parquet")
    add("--alpaca", type=Path, default=SHARED / "alpaca" / "alpaca_46k.jsonl", help="has the rows for judging")
    add("--pool", choices=["graded", "all"], default="all", help="the rows that a grader liked best, or all")
    add("--rows", type=int, help="rows that are drawn from these; left out: all of them")
    add("--draw", type=int, default=0, help="seed of what is drawn")
    add("--epochs", type=int, default=3, help="of the small model; with 1 there is no lp_1")
    add("--held-out", type=int, default=200, help="rows for judging")
    add("--seeds", type=int, default=3, help="runs of each arm")
    add("--selector", default="smollm2-135m", help="the small model")
    add("--name", default="SmolLM2-135M", help="what tables and pictures call it")
    add("--target", default="gemma3-270m", help="the model that is trained on the choice")
    add("--encoder", default="minilm", help="of the embeddings that are clustered")
    add("--lr", type=float, default=2e-5, help="peak learning rate of the target")
    add("--precision", choices=["bf16", "fp32"], default="bf16", help="of training")
    add("--shard-rows", type=int, default=32, help="rows that are scored between two kills at most")
    add("--resamples", type=int, default=figures.RESAMPLES, help="of the bootstrap")
    return result


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    experiment = Experiment(options)
    write_json(experiment.results / "reference.json", experiment.step("reference", experiment.reference))
    experiment.correlation()
    if options.part == "all":
        experiment.training()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    main()
