"""The experiment on whether a small model's choice transfers: its statistics, and all of it with tiny models."""

import importlib.util
import json
import random
import sys
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from pages import REPOSITORY
from scipy import stats

FOLDER = REPOSITORY / "docs" / "evidence" / "transfer"
PAGE = REPOSITORY / "docs" / "evidence" / "transfer.md"
PUBLISHED = REPOSITORY.parent / "shared" / "data" / "oracles" / "alpaca_published_perplexities.parquet"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec and spec.loader
    result = importlib.util.module_from_spec(spec)
    sys.modules[name] = result
    spec.loader.exec_module(result)
    return result


figures = module("transfer_figures")


def test_partial_correlation_is_that_of_the_residuals():
    """Of ranks, after a regression on the ranks of what is held constant; nothing is left where that explains all."""
    rng = np.random.default_rng(0)
    length, before = rng.normal(size=(2, 500))
    one, other = (length + 2 * before + rng.normal(size=500) for _ in range(2))
    ranks = [stats.rankdata(column) for column in (one, other, length, before)]
    design = np.column_stack([np.ones(500), *ranks[2:]])
    left = [rank - design @ np.linalg.lstsq(design, rank, rcond=None)[0] for rank in ranks[:2]]
    assert figures.rho(one, other, length, before) == pytest.approx(np.corrcoef(left)[0, 1])
    assert figures.rho(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert figures.rho(one, other) > 0.6 and abs(figures.rho(one, other, length, before)) < 0.15


def test_overlap_by_hand():
    line = figures.overlap(np.arange(10.0), np.array([9, 8, 0, 1, 2, 3, 4, 5, 6, 7.0]), 0.4)
    assert (line["rows"], line["overlap"], line["chance"]) == (4, 0.5, 0.4)
    assert figures.overlap(np.arange(10.0), np.arange(10.0), 0.33)["overlap"] == 1


def test_holm_by_hand():
    """Times 3, times 2, times 1, and never below a smaller one."""
    assert figures.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert figures.holm([0.9, 0.8]) == [1.0, 1.0]


def test_differences_are_paired_and_the_interval_is_students():
    losses = {"random": [3.0, 2.0, 4.0], "other": [2.9, 1.8, 3.7], "same": [3.0, 2.0, 4.0]}
    result = figures.comparison(losses, "random")
    assert result["other"]["difference"] == pytest.approx(-0.2)
    assert result["other"]["half"] == pytest.approx(4.302653 * 0.1 / np.sqrt(3))
    assert result["other"]["p_holm"] == pytest.approx(stats.ttest_rel(losses["other"], losses["random"]).pvalue)
    assert result["same"]["p"] is None and "p_holm" not in result["same"]


def test_the_page_shows_the_figures_that_are_stored():
    page, results = PAGE.read_text("utf-8"), FOLDER / "results"
    reference = json.loads((results / "reference.json").read_text("utf-8"))
    stored = [reference["graded"]]
    stored += [json.loads(path.read_text("utf-8")) for path in results.glob("correlation.json")]
    for one in stored:
        for column in {line["column"] for line in one["lines"]}:
            for table in (figures.correlation_table, figures.partial_table):
                assert "\n".join(table(one, column)) in page
    training = json.loads((results / "training.json").read_text("utf-8"))
    for average in figures.AVERAGES:
        assert "\n".join(figures.comparison_table(training, "random", average)) in page
    runs = pl.read_parquet(results / "runs.parquet")
    again = json.loads(json.dumps(figures.training(runs, "random")))
    assert {key: training[key] for key in again} == again and runs["seed"].n_unique() == 5


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published perplexities are not at hand")
def test_stored_figures_are_those_of_the_stored_rows():
    ours = pl.read_parquet(FOLDER / "results" / "rows.parquet")
    rows = ours.join(pl.read_parquet(PUBLISHED), on="alpaca_index")
    stored = json.loads((FOLDER / "results" / "correlation.json").read_text("utf-8"))
    wanted = ("lp_app of SmolLM2-135M", "OPT-2.7B")
    (line,) = [one for one in stored["lines"] if (one["selector"], one["target"]) == wanted]
    columns = [rows[name].to_numpy() for name in ("lp_app", "opt-2.7b__LP1_approx", "response_tokens", "ppl_epoch_0")]
    assert len(rows) == stored["rows"] == 469
    assert line["rho"] == pytest.approx(figures.rho(*columns[:2]))
    assert line["partial"]["rho"] == pytest.approx(figures.rho(*columns))
    assert rows["ifd_ppl_ratio"].null_count() == 0
    assert round(figures.rho(-rows["ifd_ppl_ratio"].to_numpy(), rows["opt-2.7b__LP1_approx"].to_numpy()), 2) == 0.58
    assert (1 - rows["ppl_epoch_1"] / rows["ppl_epoch_0"]).to_numpy() == pytest.approx(rows["lp_app"].to_numpy())


def published(path, rows: int) -> None:
    """Rows as the published ones are, with perplexities that are nobody's."""
    rng = random.Random(1)
    words = ["sea", "tree", "river", "stone", "cloud", "bird", "light", "rain", "wind", "field"]

    def text(least: int) -> str:
        return " ".join(rng.choices(words, k=least + rng.randrange(9)))

    columns = {"alpaca_index": [*range(rows)], "instruction": [f"{text(4)} {row}" for row in range(rows)]}
    columns |= {"input": [""] * rows, "output": [text(6) for _ in range(rows)]}
    columns |= {"text_exact": [True] * rows, "anchor_set": ["1k_score"] * rows}
    for size in figures.PUBLISHED:
        for ending in ("P0", "LP1", "LP1_approx"):
            columns[f"{size}__{ending}"] = [1 + rng.random() for _ in range(rows)]
    pl.DataFrame(columns).write_parquet(path)
    lines = [{"instruction": f"{text(4)} of {row}", "input": "", "output": text(6)} for row in range(30)]
    path.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_all_of_it_with_tiny_models(tiny_model, tmp_path, monkeypatch, capsys):
    """Every arm is trained and judged; what is done is not done again, and other options are refused."""
    published(tmp_path / "published.parquet", 40)
    run = module("run")
    command = ["--output", "out", "--published", "published.parquet", "--alpaca", "published.jsonl", "--held-out", 8]
    command += ["--selector", tiny_model, "--target", tiny_model, "--encoder", "proxy", "--seeds", 2, "--epochs", 2]
    command = [*map(str, [*command, "--resamples", 50, "--precision", "fp32", "--shard-rows", 64, "--name", "Tiny"])]
    monkeypatch.chdir(tmp_path)
    run.main([*command, "--part", "correlation"])
    results = tmp_path / "out" / "results"
    figures_of = json.loads((results / "correlation.json").read_text())
    ways = {"lp_app of Tiny", "lp_1 of Tiny", "longest response", "low P₀ of Tiny", "high IFD of Tiny"}
    assert figures_of["rows"] == 40
    assert {line["selector"] for line in figures_of["lines"]} >= {*ways, "lp_app of OPT-350M", "lp_1 of OPT-1.3B"}
    assert "chance (95 %)" in capsys.readouterr().out
    assert json.loads((results / "reference.json").read_text())["graded"]["rows"] == 40
    assert "instruction" not in pl.read_parquet(results / "rows.parquet").columns

    run.main(command)
    runs = pl.read_parquet(results / "runs.parquet")
    assert runs.height == 2 * 5 and runs["loss"].is_finite().all() and runs["loss"].n_unique() > 2
    training = json.loads((results / "training.json").read_text())
    assert set(training["arms"]) == set(training["losses"]) and training["untrained"] > 0
    assert training["row_losses"]["random"] == runs.filter(pl.col("arm") == "random").sort("seed")["row_loss"].to_list()
    assert runs["tokens"].max() <= 1.2 * runs["tokens"].min()
    held_out, pool = (set(run.columns(tmp_path / "out" / name, "example_id")) for name in ("held-out", "pool"))
    assert len(held_out) == 8 and not held_out & pool

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "steps").iterdir()}
    run.main(command)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "steps").iterdir()} == before
    with pytest.raises(SystemExit, match="name another --output"):
        run.main([*command, "--rows", "20"])
