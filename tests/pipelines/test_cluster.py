"""Embeddings, clusters and the selections that stand on them, as a person makes them."""

import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from curricle.curate.embedding.clustering import k_means
from curricle.curate.metrics.embedding import metric
from curricle.curate.passes.models import Models
from curricle.pipelines.commands import cluster as commands
from curricle.pipelines.commands.status import describe
from curricle.schemas.table import score_columns
from running import curricle, read_data, signed, write_jsonl
from sklearn.metrics import silhouette_score
from table_maker import make_table

ROWS, DIMENSIONS, BLOBS = 240, 8, 6
VECTORS = metric("mean", 256, DIMENSIONS).signed_columns(Models())


@pytest.fixture(scope="module")
def blobs(tmp_path_factory) -> Path:
    """A table whose vectors lie around six directions; every fortieth row has none."""
    directory, draw = tmp_path_factory.mktemp("blobs"), np.random.default_rng(0)
    vectors = 3 * np.eye(DIMENSIONS)[np.arange(ROWS) % BLOBS] + draw.normal(0, 0.3, (ROWS, DIMENSIONS))
    listed = [None if row % 40 == 7 else vector.tolist() for row, vector in enumerate(vectors)]
    make_table(directory, {"embedding": listed}, VECTORS, rows=ROWS, parts=3, rejects=[("not JSON", "no")])
    return directory


def cluster(table: Path, out: Path, *options: object, code: int = 0) -> str:
    return curricle("cluster", table, "--output", out, *options, code=code)


@pytest.mark.parametrize("algorithm", ["kmeans", "minibatch"])
def test_clusters_are_those_that_are_there(blobs, tmp_path, algorithm):
    message = cluster(blobs, tmp_path / "out", "--k", BLOBS, "--algorithm", algorithm)
    assert "whole" in curricle("verify", tmp_path / "out")
    before, after = read_data(blobs), read_data(tmp_path / "out")
    assert after.drop(["cluster", "notes"]).equals(before.drop(["notes"]))
    labels = after["cluster"].to_pylist()
    assert after.schema.field("cluster").type == pa.int32()
    assert {(row % BLOBS, label) for row, label in enumerate(labels) if label is not None} == {
        (blob, labels[blob]) for blob in range(BLOBS)
    }
    nulls = [row for row, label in enumerate(labels) if label is None]
    assert nulls == list(range(7, ROWS, 40))
    assert all(after["notes"][row].as_py()[-1] == "cluster: there is no embedding" for row in nulls)
    figures = json.loads((tmp_path / "out" / "clusters.json").read_text())
    present = np.array([row for row in range(ROWS) if row not in nulls])
    vectors = np.stack(before["embedding"].take(present).to_numpy())
    expected = [label for label in labels if label is not None]
    assert figures["silhouette"] == pytest.approx(silhouette_score(vectors, expected), abs=1e-5)
    assert figures["sizes"] == [Counter(expected)[label] for label in range(BLOBS)]
    assert (figures["rows"], figures["rows_without_vector"], figures["empty"]) == (ROWS - 6, 6, 0)
    assert "234 rows in 6 clusters" in message and f"{figures['silhouette']:.3f}" in message
    params = score_columns(after.schema)["cluster"].params
    assert (params["k"], params["seed"], params["algorithm"], params["by"]) == (BLOBS, 42, algorithm, "embedding")
    page = (tmp_path / "out" / "clusters.html").read_text()
    assert "234 rows in 6 clusters" in page and page.count("<h3>") == 6 and page.count("<details") == 18


@pytest.mark.parametrize("algorithm", ["kmeans", "minibatch"])
def test_rows_that_are_left_out_get_the_nearest_centre_and_move_none(blobs, tmp_path, algorithm):
    """The others are clustered as in a table that has them alone."""
    curricle("select", blobs, "--output", tmp_path / "sets", "--split", "train=0.7,judging=0.3")
    options, judging = ["--k", 5, "--algorithm", algorithm], tmp_path / "sets" / "judging"
    printed = cluster(blobs, tmp_path / "out", *options, "--leave-out", judging)
    cluster(tmp_path / "sets" / "train", tmp_path / "alone", *options)
    cluster(blobs, tmp_path / "all", *options)
    judged = {*read_data(judging)["example_id"].to_pylist()}
    rows = read_data(tmp_path / "out").to_pylist()
    left = [row for row in rows if row["example_id"] in judged]
    assert f"{len(left)} of {ROWS} rows are not learned from" in printed and 0 < len(left) < ROWS
    learned = [row for row in rows if row["example_id"] not in judged]
    alone = read_data(tmp_path / "alone")["cluster"].to_pylist()
    assert [row["cluster"] for row in learned] == alone
    assert alone != [
        row["cluster"] for row in read_data(tmp_path / "all").to_pylist() if row["example_id"] not in judged
    ]
    note = "cluster: of the nearest centre, in which this row has no part"
    assert all((note in (row["notes"] or [])) == (row in left and row["cluster"] is not None) for row in rows)
    if algorithm == "kmeans":  # whose centres are the means
        of = [np.mean([row["embedding"] for row in learned if row["cluster"] == k], axis=0) for k in range(5)]
        for row in left:
            if row["embedding"]:
                assert row["cluster"] == int(np.argmin([np.sum((row["embedding"] - each) ** 2) for each in of]))
    figures = json.loads((tmp_path / "out" / "clusters.json").read_text())
    assert (figures["rows"], figures["rows_left_out"]) == (ROWS - 6, len(left))
    assert "whole" in curricle("verify", tmp_path / "out")
    columns = [signed(tmp_path / name)["columns"]["cluster"] for name in ("out", "all")]
    assert columns[0] != columns[1]
    assert "left_out" in cluster(blobs, tmp_path / "out", *options, code=2)
    assert "0 of 240 rows are left to learn from" in cluster(
        blobs, tmp_path / "no", *options, "--leave-out", blobs, code=2
    )


def test_the_same_table_and_seed_give_the_same_clusters(blobs, tmp_path):
    """So that a kill, after which everything is computed again, does not show."""
    for name, seed in (("one", 42), ("two", 42), ("other", 43)):
        cluster(blobs, tmp_path / name, "--k", 20, "--seed", seed)
    assert signed(tmp_path / "one") == signed(tmp_path / "two")
    assert not read_data(tmp_path / "one")["cluster"].equals(read_data(tmp_path / "other")["cluster"])
    (tmp_path / "two" / "manifest.json").unlink()
    cluster(blobs, tmp_path / "two", "--k", 20)
    assert signed(tmp_path / "one") == signed(tmp_path / "two")
    assert "already there" in cluster(blobs, tmp_path / "two", "--k", 20)
    assert "--overwrite" in cluster(blobs, tmp_path / "two", "--k", 21, code=2)


def test_phases_are_named_and_shown_by_status(blobs, tmp_path, monkeypatch):
    """While the model is fitted, too; once the table is there they are gone."""
    out, words = tmp_path / "out", []
    monkeypatch.setattr(commands, "k_means", lambda *options: words.extend(describe(str(out))) or k_means(*options))
    printed = cluster(blobs, out, "--k", BLOBS, "--log-format", "json")
    lines = [json.loads(line) for line in printed.splitlines()]
    fitting = f"fitting {BLOBS} clusters to {ROWS - 6} vectors"
    phases = ["reading the vectors", fitting, "writing the table"]
    assert [line["phase"] for line in lines if "phase" in line] == phases
    assert words[0] == f"{out}: {fitting}" and f"process {os.getpid()} on" in words[1] and words[1].endswith("at work")
    assert curricle("status", out) == f"{out}: finished, {ROWS} records\n"
    assert json.loads(curricle("status", out, "--json"))["phase"] is None and not (out / "_progress" / "live").exists()


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--k", ROWS + 1], f"give --k {ROWS} or less", 2),
        (["--k", ROWS - 1], f"give --k {ROWS - 6} or less", 1),
        (["--k", 0], "--k is 0", 2),
        (["--k", 2, "--by", "embeding"], "did you mean 'embedding'", 2),
        (["--k", 2, "--by", "source"], "name vectors", 2),
        (["--k", 2, "--seed", -1], "--seed is -1", 2),
    ],
)
def test_wrong_usage(blobs, tmp_path, options, message, code):
    assert message in cluster(blobs, tmp_path / "out", *options, code=code)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert "is the table itself" in cluster(blobs, blobs, "--k", 2, code=2)


def test_one_cluster_and_one_a_row_have_no_silhouette(blobs, tmp_path):
    for k in (1, ROWS - 6):
        assert "silhouette undefined" in cluster(blobs, tmp_path / str(k), "--k", k)
        assert json.loads((tmp_path / str(k) / "clusters.json").read_text())["silhouette"] is None


def test_representative_rows_of_a_table_without_any_vector(tmp_path):
    make_table(tmp_path / "none", {"embedding": [None] * 9}, VECTORS, rows=9)
    command = ["--take", "representative", "--by", "embedding", "--count", 3, "--output", tmp_path / "out"]
    assert "no row is selected" in curricle("select", tmp_path / "none", *command, code=2)


@pytest.fixture(scope="module")
def embedded(tiny_model, alpaca_rows, tmp_path_factory) -> Path:
    """150 real rows with the embeddings of MiniLM, and the IFD of a tiny proxy."""
    folder = tmp_path_factory.mktemp("embedded")
    write_jsonl(folder / "in.jsonl", alpaca_rows(150))
    options = ["--metrics", "ifd,embedding", "--proxy.model", tiny_model, "--embedding.max-length", 64]
    curricle("score", folder / "in.jsonl", "--output", folder / "out", *options)
    return folder / "out"


def test_superfiltering_d(embedded, tmp_path):
    """IFD below 1, its top fifth, and of that what stands for all (arXiv 2402.00530): 20 %, then 2 %."""
    rows = read_data(embedded)
    assert {len(vector) for vector in rows["embedding"].to_pylist()} == {384}
    hard = ["--where", "ifd_ppl_ratio < 1.5", "--take", "hard", "--by", "ifd_ppl_ratio", "--fraction", 0.2]
    curricle("select", embedded, "--output", tmp_path / "hard", *hard)
    standing = ["--take", "representative", "--by", "embedding", "--count", 3]
    curricle("select", tmp_path / "hard", "--output", tmp_path / "standing", *standing)
    few, some = read_data(tmp_path / "standing"), read_data(tmp_path / "hard")
    assert few.num_rows == 3 and {*few["example_id"].to_pylist()} < {*some["example_id"].to_pylist()}

    def coverage(chosen) -> float:
        vectors = np.stack(some["embedding"].to_numpy())
        return float((vectors @ np.stack(chosen).T).max(axis=1).sum())

    draw, drawn = np.random.default_rng(0), some["embedding"].to_numpy()
    by_chance = [coverage(drawn[draw.choice(len(drawn), 3, replace=False)]) for _ in range(100)]
    assert coverage(few["embedding"].to_numpy()) > max(by_chance)
    for name in ("hard", "standing"):
        assert "whole" in curricle("verify", tmp_path / name)
        curricle("select", "--check", tmp_path / name)


def test_a_quota_in_each_cluster(embedded, tmp_path):
    """Small2Large's selection: the first part of each cluster, rounded up (arXiv 2402.10430)."""
    cluster(embedded, tmp_path / "clusters", "--k", 12)
    quota = ["--take", "hard", "--by", "ifd_ppl_ratio", "--part", "1/10", "--per", "cluster"]
    curricle("select", tmp_path / "clusters", "--output", tmp_path / "out", *quota)
    table = pl.DataFrame(read_data(tmp_path / "clusters").select(["cluster", "ifd_ppl_ratio"])).drop_nulls()
    sizes = Counter(table["cluster"])
    durations = Counter(read_data(tmp_path / "out")["cluster"].to_pylist())
    assert durations == {label: math.ceil(size / 10) for label, size in sizes.items()}
    curricle("select", "--check", tmp_path / "out")


def test_how_rows_are_cut_into_shards_does_not_show(embedded, tmp_path):
    """To the last bit, on one machine: see ``Encoder``."""
    options = ["--metrics", "embedding", "--embedding.max-length", 64, "--shard-rows", 11]
    write_jsonl(tmp_path / "in.jsonl", [json.loads(line) for line in (embedded.parent / "in.jsonl").open()][:30])
    curricle("score", tmp_path / "in.jsonl", "--output", tmp_path / "out", *options)
    mine, theirs = read_data(tmp_path / "out")["embedding"], read_data(embedded)["embedding"].slice(0, 30)
    assert mine.combine_chunks().equals(theirs.combine_chunks())
    cut = [notes for notes in read_data(tmp_path / "out")["notes"].to_pylist() if notes]
    assert cut and all(notes == ["embedding: of the first 64 tokens"] for notes in cut)


def test_the_identity_names_the_encoder(embedded, tiny_model, tmp_path):
    encoder = signed(embedded)["identity"]["columns"]["embedding"]["encoder"]["weights"]["sha256"]
    assert encoder["model.safetensors"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b"}, {"prompt": " ", "completion": ""}])
    command = ["score", tmp_path / "in.jsonl", "--output", tmp_path / "out", "--metrics", "embedding"]
    proxy = ["--embedding.model", "proxy", "--proxy.model", tiny_model]
    curricle(*command, *proxy)
    assert read_data(tmp_path / "out")["embedding"].is_valid().to_pylist() == [True, False]
    assert read_data(tmp_path / "out")["notes"][1].as_py() == ["embedding: there is no text"]
    assert "max_length: 256 there, 128 now" in curricle(*command, *proxy, "--embedding.max-length", 128, code=2)
    assert "encoder.weights" in curricle(*command, code=2)
