"""The transfer report: its numbers, by hand and by another library, and what it does with hostile names."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from curricle.curate.report.agreement import agreement
from running import curricle, read_data
from scipy.stats import spearmanr
from table_maker import COLUMNS, make_table, random_scores

ROWS = 200


def test_agreement_by_hand():
    one = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    result = agreement(one, one[::-1].copy(), "high")
    assert result.spearman == pytest.approx(-1) and result.rows == 10
    hard, few, easy, lowest = result.overlaps
    assert (hard.end, hard.share, hard.taken, hard.overlap, hard.chance) == ("high", 0.33, 3, 0, 0.3)
    assert (few.end, few.taken, easy.end, lowest.taken) == ("high", 1, "low", 1)
    assert result.curve[-1] == (1, 1) and dict(result.curve)[0.6] == pytest.approx(2 / 6)
    assert [each.end for each in agreement(one, one, "low").overlaps] == ["low", "low", "high", "high"]
    assert all(each.overlap == 1 for each in agreement(one, one, "low").overlaps)


def test_equal_values_share_the_ranks_that_are_left():
    """A constant column selects at random, and so overlaps by chance."""
    one, constant = np.arange(100.0), np.zeros(100)
    assert agreement(one, constant, "high").spearman is None
    for each in agreement(one, constant, "high").overlaps:
        assert each.overlap == pytest.approx(each.chance)


def test_agreement_with_the_published_models(shared_data):
    """Of learning percentages between OPT-350M and OPT-2.7B on the same 1,472 rows: scipy's rho, counted overlaps."""
    published = pl.read_parquet(shared_data / "oracles" / "alpaca_published_perplexities.parquet")
    one, other = (published[f"opt-{size}__LP1"].to_numpy() for size in ("350m", "2.7b"))
    result = agreement(one, other, "low")
    assert result.spearman == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)
    for each in result.overlaps[:2]:
        lowest = [set(np.argsort(values, kind="stable")[: each.taken]) for values in (one, other)]
        assert each.overlap == pytest.approx(len(lowest[0] & lowest[1]) / each.taken)
        assert each.overlap > each.chance


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> list[Path]:
    """Three tables of the same texts; one is of a hostile name, and one has a column less."""
    root = tmp_path_factory.mktemp("tables")
    paths = [root / "small", root / "<script>alert(1)<", root / "less"]
    scores = [random_scores(ROWS, seed) for seed in range(3)]
    scores[1]["loss"] = [loss if index % 9 else None for index, loss in enumerate(scores[0]["loss"])]
    for path, columns in zip(paths[:2], scores, strict=False):
        make_table(path, columns, rows=ROWS)
    rest = [column for column in COLUMNS if column.name != "reward_gap"]
    make_table(paths[2], scores[2], rest, rows=ROWS)
    return paths


class Safe(HTMLParser):
    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "img", "iframe", "link"), tag
        assert not [name for name, _ in attrs if name.startswith("on")]


def test_a_report_of_two_tables(tables, tmp_path):
    out = tmp_path / "out"
    printed = curricle("transfer", *tables[:2], "--columns", "loss,reward_gap", "--output", out)
    report = json.loads((out / "transfer.json").read_text())
    loss, gap = report["comparisons"]
    assert (loss["one"], loss["other"], loss["hard"], gap["hard"]) == ("small", "<script>alert(1)<", "high", "low")
    assert loss["spearman"] == pytest.approx(1) and loss["overlaps"][0]["overlap"] == 1
    assert abs(gap["spearman"]) < 1 and gap["overlaps"][0]["end"] == "low"
    different = set(read_data(tables[0])["example_id"].to_pylist())
    assert gap["rows"] == len(different) > loss["rows"]
    page = (out / "transfer.html").read_text()
    Safe().feed(page)
    assert "&lt;script&gt;alert(1)" in page and page.count("<svg") == 2
    lines = printed.splitlines()
    assert "hard 33%" in lines[0] and "100.0 (" in lines[1] and "reward_gap" in lines[2]
    before = page, (out / "transfer.json").read_text()
    curricle("transfer", *tables[:2], "--columns", "loss,reward_gap", "--output", out)
    assert before == ((out / "transfer.html").read_text(), (out / "transfer.json").read_text())


def test_every_pair_and_what_all_tables_have(tables, tmp_path):
    curricle("transfer", *tables, "--output", tmp_path / "out")
    comparisons = json.loads((tmp_path / "out" / "transfer.json").read_text())["comparisons"]
    assert {(each["one"], each["other"]) for each in comparisons} == {
        ("small", "<script>alert(1)<"),
        ("small", "less"),
        ("<script>alert(1)<", "less"),
    }
    assert {each["column"] for each in comparisons} == {"prompt_words", "response_words", "response_mtld", "loss"}


def test_what_cannot_be_compared_is_refused(tables, tmp_path):
    out = ("--output", tmp_path / "out")
    assert "fewer than two" in curricle("transfer", tables[0], *out, code=2)
    assert "did you mean 'loss'" in curricle("transfer", *tables[:2], "--columns", "losss", *out, code=2)
    assert "reward_gap" in curricle("transfer", tables[0], tables[2], "--columns", "reward_gap", *out, code=2)
    assert "no column of numbers 'embedding'" in curricle(
        "transfer", *tables[:2], "--columns", "embedding", *out, code=2
    )
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "holds other files" in curricle("transfer", *tables[:2], "--output", tmp_path / "mine", code=2)
