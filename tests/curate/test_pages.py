"""How the pages of tables look, with hostile text in each, and what a selection's page says of it."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from browser import Page, check_inert, faults
from curricle.curate.embedding.topics import distinctive_words
from curricle.curate.report import report_page
from curricle.curate.report.agreement import agreement
from curricle.curate.report.clusters import MANY, ShownCluster, clusters_page
from curricle.curate.report.distributions import distribution
from curricle.curate.report.page import SHOWN_CATEGORIES, Category
from curricle.curate.report.transfer import Comparison, transfer_page
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.manifest import CERTIFICATE, MANIFEST, SelectedFrom
from curricle.schemas.pages.excerpts import ShownExample
from curricle.schemas.sums import sha256_of
from table_maker import COLUMNS, HOSTILE, make_table, random_scores

NAME = HOSTILE[2]
KIND = ScoreColumn("kind", pa.string(), "name", "what it is about").of_metric("kind", 1, {})
CLUSTER = ScoreColumn("cluster", pa.int32(), "cluster number", "k-means cluster").of_metric("cluster", 1, {})
RECIPE = {"where": f"loss < 9 and {NAME}", "take": "hard", "by": "loss", "fraction": 0.5, "shares": "equal", "seed": 0}
STEPS = [
    {"rule": "where", "rows": 400, "left": 390, "nulls": 3},
    {"rule": f"take {NAME}", "rows": 390, "left": 200, "asked": 195},
]


def selected(directory, rows=200):
    """A table, and the half of it with the highest losses as a selection that says so."""
    scores = random_scores(2 * rows)
    scores["kind"] = [HOSTILE[row % len(HOSTILE)] for row in range(2 * rows)]
    scores["cluster"] = [row % 40 for row in range(2 * rows)]
    columns = [*COLUMNS, KIND, CLUSTER]
    whole, part = directory / "whole", directory / "part"
    make_table(whole, scores, columns, rows=2 * rows, rejects=[("not JSON", HOSTILE[0])] * 3, parts=2)
    order = np.argsort(scores["loss"])[rows:]
    hardest = {name: [each[row] for row in order] for name, each in scores.items()}
    manifest = make_table(part, hardest, columns, rows=rows)
    certificate = {"table": {"place": str(whole)}, "recipe": RECIPE, "joined": [], "steps": STEPS}
    (part / CERTIFICATE).write_text(json.dumps(certificate))
    by = SelectedFrom(
        manifest_sha256=sha256_of(whole / MANIFEST),
        fingerprint=manifest.fingerprint,
        rows=2 * rows,
        certificate_sha256="0" * 64,
    )
    (part / MANIFEST).write_text(json.dumps(manifest.model_copy(update={"selected_from": by}).model_dump()))
    return whole, part, scores


def clusters(count):
    turns = [{"role": NAME, "content": text} for text in HOSTILE]
    example = ShownExample.of({"example_id": "0" * 32, "source": NAME, "source_position": 3, "messages": turns})
    figures = {"rows": 12 * count, "clusters": count, "by": NAME, "silhouette": None, "sizes": [*range(1, count + 1)]}
    return clusters_page(
        figures, [ShownCluster(number, 12, [text[:30] for text in HOSTILE], [example] * 3) for number in range(count)]
    )


def transfer():
    draw = np.random.default_rng(0)
    one = draw.normal(size=300)
    columns = [replace(COLUMNS[3], name=name) for name in ("loss", "a_column_with_a_long_name", NAME)]
    comparisons = [
        Comparison(*pair, column, agreement(one, one + draw.normal(size=300), "high"))
        for pair in (("small", NAME), ("small", "large"))
        for column in columns
    ]
    about = {"place": f"/data/{NAME}" * 3, "rows": 300, "fingerprint": "f" * 32}
    return transfer_page([{"label": name, **about} for name in (NAME, "small")], comparisons)


def test_every_page_is_inert_shows_hostile_text_as_text_and_fits_a_phone(tmp_path):
    whole, part, _ = selected(tmp_path)
    pages = {
        "score": report_page(whole),
        "selection": report_page(part),
        "clusters": clusters(5),
        "transfer": transfer(),
    }
    for name, page in pages.items():
        check_inert(page)
        assert "<img src=x onerror=alert(1)>" in Page(page).text, name
        (tmp_path / f"{name}.html").write_text(page)
    assert faults(*(tmp_path / f"{name}.html" for name in pages)) == []


def test_a_selection_shows_its_recipe_its_rules_and_the_table_before(tmp_path):
    whole, part, scores = selected(tmp_path)
    text = Page(report_page(part)).text
    for words in ("--take hard", "--by loss", "--fraction 0.5", "200 (51 %)", "asked 195", str(whole)):
        assert words in text
    assert "--shares" not in text, "without --per it says nothing"
    median = f"{np.median(scores['loss']):.4g}"
    assert f"The table before the selection: median {median} over 400 rows" in text
    (whole / MANIFEST).write_text((whole / MANIFEST).read_text() + "\n")
    text = Page(report_page(part)).text
    assert "before the selection: median" not in text and "is another one now" in text
    (part / CERTIFICATE).write_text('{"recipe": 3}')
    assert "cannot be read" in Page(report_page(part)).text


def test_the_bins_of_a_selection_are_those_of_its_table():
    whole = pl.Series([*range(100)], dtype=pl.Float64)
    shape = distribution(COLUMNS[3], whole.filter(whole > 89), whole)
    assert shape.whole and (shape.whole.values, sum(shape.whole.counts), sum(shape.counts)) == (100, 100, 10)
    assert (shape.edges[0], shape.edges[-1], shape.minimum, shape.whole.median) == (0, 99, 90, 49.5)
    assert all(part <= all_of_them for part, all_of_them in zip(shape.counts, shape.whole.counts, strict=True))


def test_names_are_counted_and_have_no_histogram(tmp_path):
    whole, _, _ = selected(tmp_path)
    page = report_page(whole)
    assert "Histogram of cluster" not in page and "Histogram of loss" in page
    assert f"{40 - SHOWN_CATEGORIES} others" in Page(page).text


def test_the_most_frequent_names_come_first():
    values = ["b"] * 3 + ["a"] * 3 + ["c"] * 5 + [None] * 2 + [f"rare {index}" for index in range(20)]
    counted = Category.of(KIND, pl.Series("kind", values))
    assert list(counted.first[:3]) == [("c", 5), ("a", 3), ("b", 3)] and len(counted.first) == SHOWN_CATEGORIES
    assert (counted.others, counted.other_rows, counted.nulls) == (23 - SHOWN_CATEGORIES, 23 - SHOWN_CATEGORIES, 2)


def test_words_of_a_cluster_are_those_that_the_others_do_not_have():
    horses = ["the horse eats hay", "a horse and the hay", "the grey horse 17"]
    ships = ["the ship sails", "a ship at sea, the sea", "THE ship 17"]
    words = distinctive_words([horses, ships])
    assert [first for first, *_ in words] == ["horse", "ship"]
    assert all("17" not in each for each in words)
    assert distinctive_words([["1 2"], [""]]) == [[], []]
    assert [first for first, *_ in distinctive_words([["马", "马 白"], ["船", "船 白"]])] == ["马", "船"]
    assert distinctive_words([["a" * 31], ["b"]]) == [[], ["b"]]


@pytest.mark.parametrize("count", [1, MANY, MANY + 1])
def test_a_histogram_of_sizes_is_for_many_clusters(count):
    assert ("<svg" in clusters(count)) == (count > MANY)
