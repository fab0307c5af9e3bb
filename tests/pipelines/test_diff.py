"""`curricle diff`: a table and itself, what came and went, what drifts, and what it does with hostile names."""

import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from curricle import pipelines
from curricle.curate.report.drift import RowMatch, drift
from curricle.schemas.common.command import DIFFERENT
from running import curricle, read_data, write_jsonl
from scipy import stats
from table_maker import COLUMNS, make_table, random_scores

ROWS = 160


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Rows with copies of one conversation, nulls and rejects."""
    folder = tmp_path_factory.mktemp("diff") / "<script>alert(1)<"
    make_table(folder, random_scores(ROWS), rows=ROWS, rejects=[("not JSON", "x")] * 2, parts=2)
    assert len(set(read_data(folder)["example_id"].to_pylist())) < ROWS
    return folder


class Safe(HTMLParser):
    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "img", "iframe", "link", "form"), tag
        for name, value in attrs:
            assert not name.startswith("on") and "url(" not in (value or "").replace("url(#", "")
            assert name not in ("href", "src") or value.startswith("#")


def test_a_table_and_itself(table, tmp_path):
    shutil.copytree(table, tmp_path / "copy")
    for other in (table, tmp_path / "copy"):
        difference = pipelines.diff(table, other)
        assert difference.is_empty and difference.both == ROWS and not difference.beyond(0)
        assert curricle("diff", table, other) == "nothing differs\n", "which is for the log"
    curricle("diff", table, table, "--output", tmp_path / "out")
    assert "Nothing differs" in (tmp_path / "out" / "diff.html").read_text()


def test_a_table_that_has_no_row_any_more(table, tmp_path):
    """An alarm to every scheduler; the first rows of a table are none."""
    write_jsonl(tmp_path / "some.jsonl", [{"prompt": "Say a.", "completion": "a"}])
    write_jsonl(tmp_path / "none.jsonl", [{"prompt": 5, "completion": "a"}])
    score = ("--metrics", "mtld", "--max-reject-fraction", 1)
    for name in ("some", "none"):
        curricle("score", f"{name}.jsonl", "--output", name, *score, cwd=tmp_path)
    curricle("diff", "some", "none", "--max-drift", 0.9, cwd=tmp_path, code=DIFFERENT)
    curricle("diff", "none", "some", "--max-drift", 0.9, cwd=tmp_path)
    curricle("diff", "none", "none", "--max-drift", 0, cwd=tmp_path)


def test_what_is_left_out_and_what_came(table, tmp_path):
    """Two selections of a table: rows in both, and rows that one has alone."""
    for name, seed in (("one", 1), ("two", 2)):
        pipelines.select(table, tmp_path / name, take="random", fraction=0.5, seed=seed)
    one, two = (read_data(tmp_path / name)["example_id"].to_pylist() for name in ("one", "two"))
    common = sum((min(one.count(row), two.count(row))) for row in {*one, *two})
    difference = pipelines.diff(tmp_path / "one", tmp_path / "two")
    assert (difference.both, difference.only_old, difference.only_new) == (common, 80 - common, 80 - common)
    output = curricle("diff", tmp_path / "one", tmp_path / "two", "--output", tmp_path / "out", code=DIFFERENT)
    assert f"rows: {common} in both, {80 - common} only in OLD, {80 - common} only in NEW" in output
    report = json.loads((tmp_path / "out" / "diff.json").read_text())
    assert report["rows"] == {"both": common, "only_old": 80 - common, "only_new": 80 - common}
    page = (tmp_path / "out" / "diff.html").read_text()
    Safe().feed(page)
    assert page.count("<svg") == 5 and "<script>alert" not in page
    assert curricle("diff", tmp_path / "one", tmp_path / "two", "--max-drift", 0.5).startswith("OLD ")
    curricle("diff", tmp_path / "one", tmp_path / "two", "--max-drift", 0, code=DIFFERENT)
    before = page, (tmp_path / "out" / "diff.json").read_text()
    curricle("diff", tmp_path / "one", tmp_path / "two", "--output", tmp_path / "out", code=DIFFERENT)
    assert before == (page, (tmp_path / "out" / "diff.json").read_text())


def test_values_that_changed_and_columns_that_are_made_otherwise(table, tmp_path):
    scores = random_scores(ROWS)
    scores["loss"] = [value + (0.25 if row % 4 == 0 else 0) for row, value in enumerate(scores["loss"])]
    scores["embedding"][7] = [1.0, 2.0]
    columns = [column for column in COLUMNS if column.name != "truncated"]
    columns[2] = columns[2].of_metric("mtld", 2, {"threshold": 0.72})
    make_table(tmp_path / "new", scores, columns, rows=ROWS)
    difference = pipelines.diff(table, tmp_path / "new")
    changes = {change.name: change for change in difference.columns}
    assert {*changes} == {"response_mtld", "truncated"} and changes["truncated"].new is None
    old, new = (read.columns["response_mtld"] for read in (pipelines.verify(path).manifest for path in
                                                             (table, tmp_path / "new")))  # fmt: skip
    assert (changes["response_mtld"].old, changes["response_mtld"].new) == (old, new)
    assert changes["response_mtld"].changes == ["metrics.mtld.version: 1 there, 2 now"]
    drifts = {each.column.name: each for each in difference.drifting}
    assert {*drifts} == {"loss", "embedding"} and difference.beyond(1), "a column is made otherwise"
    loss = drifts["loss"].paired
    assert (loss.rows, loss.changed) == (ROWS, ROWS // 4)
    assert (loss.mean, loss.largest) == (pytest.approx(0.0625), pytest.approx(0.25))
    assert drifts["embedding"].paired.changed == 1 and drifts["embedding"].kind == "other"
    output = curricle("diff", table, tmp_path / "new", "--columns", "loss,response_mtld", code=DIFFERENT)
    assert f"column response_mtld: {old} in OLD, {new} in NEW\n  metrics.mtld.version" in output
    assert "truncated" not in output and "embedding" not in output and "rejects" in output
    assert "no score column 'los'" in curricle("diff", table, tmp_path / "new", "--columns", "los", code=2)


def test_moved_rows_other_fields_and_sources(tmp_path):
    rows = [{"instruction": f"Add {row} and 2.", "output": f"{row + 2}.", "tag": "a"} for row in range(8)]
    for name, texts in (("a", rows), ("b", [*rows[4:], *rows[:4]]), ("c", [{**row, "tag": "b"} for row in rows])):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in texts))
        curricle("score", f"{name}.jsonl", "--output", name, "--metrics", "mtld", cwd=tmp_path)
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "d.jsonl")
    curricle("score", "d.jsonl", "--output", "d", "--metrics", "mtld", cwd=tmp_path)
    output = curricle("diff", "a", "b", code=DIFFERENT, cwd=tmp_path)
    assert "another source: 8 rows in both; the first was a.jsonl 0, and is b.jsonl 4" in output
    assert "source a.jsonl: 8 records, not in NEW" in output and "source b.jsonl: 8 records, not in OLD" in output
    assert "other extra: 8 rows" in curricle("diff", "a", "c", code=DIFFERENT, cwd=tmp_path)
    output = curricle("diff", "a", "d", code=DIFFERENT, cwd=tmp_path)
    assert "source a.jsonl: 8 records, called d.jsonl in NEW" in output and "other extra" not in output
    curricle("diff", "a", "d", "--max-drift", 0, cwd=tmp_path)


def test_what_cannot_be_compared_is_refused(table, tmp_path):
    assert "there is no manifest" in curricle("diff", table, tmp_path, code=2)
    assert "NEW is required" in curricle("diff", table, code=2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "holds other files" in curricle("diff", table, table, "--output", tmp_path / "mine", code=2)
    assert "max-drift is 2" in curricle("diff", table, table, "--max-drift", 2, code=2)
    shutil.copytree(table, tmp_path / "damaged")
    part = next((tmp_path / "damaged" / "data").iterdir())
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    curricle("diff", table, tmp_path / "damaged", code=1)


LOSS = COLUMNS[3]


def apart(old: list, new: list, shared: int) -> RowMatch:
    """The first rows are in both."""
    both = np.arange(shared)
    return RowMatch(np.stack([both, both], 1), np.arange(shared, len(old)), np.arange(shared, len(new)))


def test_drift_of_rows_that_came_is_what_scipy_says():
    draw = np.random.default_rng(0)
    old = draw.normal(2, 1, 300)
    new = np.concatenate([old, draw.normal(3, 1, 40)])
    result = drift(LOSS, pl.Series(old), pl.Series(new), apart(old, new, 300))
    assert result.distance == result.drift == pytest.approx(stats.ks_2samp(old, new).statistic)
    expected = stats.ks_2samp(new[300:], old, method="exact")
    assert result.test and (result.test.statistic, result.test.p) == pytest.approx(
        (expected.statistic, expected.pvalue)
    )
    assert result.test.sizes == (40, 300) and result.test.p < 1e-6 < stats.ks_2samp(old, new).pvalue
    assert result.paired.changed == 0 and result.paired.test is None
    turned = drift(LOSS, pl.Series(new), pl.Series(old), apart(new, old, 300))
    assert turned.test and turned.test.p == result.test.p and turned.test.rows == "only in OLD, against NEW"
    assert sum(result.counts[0]) == 300 and sum(result.counts[1]) == 340
    assert result.old.quantiles
    assert [*result.old.quantiles.values()] == pytest.approx(np.percentile(old, [*result.old.quantiles]))


def test_rows_that_were_scored_otherwise_are_tested_in_pairs():
    draw = np.random.default_rng(1)
    old = draw.normal(2, 1, 200)
    new = old + draw.normal(0.05, 0.1, 200)
    result = drift(LOSS, pl.Series(old), pl.Series(new), apart(old, new, 200))
    expected = stats.wilcoxon(new - old)
    assert result.test is None and result.paired.test
    assert (result.paired.test.statistic, result.paired.test.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert result.paired.spearman == pytest.approx(stats.spearmanr(old, new).statistic)
    assert result.disagreement == pytest.approx(1 - result.paired.spearman) and 0 < result.disagreement < 0.1
    shuffled = drift(LOSS, pl.Series(old), pl.Series(draw.permutation(old)), apart(old, new, 200))
    assert shuffled.drift == 0 and shuffled.disagreement > 0.5, "the same distribution, and another order"


def test_values_that_are_not_there_drift():
    old, new = pl.Series([1.0, 2.0, None, 4.0]), pl.Series([1.0, None, None, float("nan")])
    result = drift(LOSS, old, new, apart([0] * 4, [0] * 4, 4))
    assert result.paired.changed == 2 and result.distance == pytest.approx(2 / 3) and result.drift >= 0.5
    assert (result.new.nulls, result.new.not_finite) == (2, 1)
    empty = drift(LOSS, old, pl.Series([None] * 4, dtype=pl.Float64), apart([0] * 4, [0] * 4, 4))
    assert empty.distance is None and empty.drift == 0.75


def test_categories_by_their_shares():
    column = COLUMNS[5]
    old, new = pl.Series([True] * 30 + [False] * 70), pl.Series([True] * 60 + [False] * 40)
    result = drift(column, old, new, apart([0] * 100, [0] * 100, 0))
    assert result.kind == "category" and result.distance == pytest.approx(0.3) and result.test
    expected = stats.chi2_contingency([[40, 60], [70, 30]], correction=False)
    assert result.test.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("values", [[], [1.0], [1e300, -1e308, 1.7e308], [2.5] * 9])
def test_extreme_columns_are_no_accident(values):
    old, new = pl.Series(values, dtype=pl.Float64), pl.Series([*values, 0.5], dtype=pl.Float64)
    result = drift(LOSS, old, new, apart(values, [*values, 0.5], len(values)))
    assert 0 <= result.drift <= 1


def test_scipy_is_imported_where_a_test_is_made():
    """It takes a second, which is not for those who look at the same figures without a test."""
    code = "import sys, curricle.curate.report.drift; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0
