"""The package in tests/plugin, installed for real: a metric, a format, a reader, an engine and a curriculum."""

import os
import shutil
import subprocess
import sys
import tomllib

import pyarrow.parquet as pq
import pytest
from curricle.schemas.fingerprint import canonical_json
from curricle.schemas.manifest import read_manifest
from curricle.schemas.table import score_columns
from pages import REPOSITORY, block
from running import command, read_data, read_rejects

ROWS = ["q\ta\tby", "Hi?\tYes!\t1", "Why?\tSo.\t2", "one field", "How?\tLike this!!!\t3", "And?\tNo!!\t4"]
ORIGIN = {"distribution": "curricle-example", "version": "1.2"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that the package is installed into, and an environment in which it is found."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(REPOSITORY / "tests" / "plugin", folder / "source")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*install, folder / "site", source], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(folder / "site")}


@pytest.fixture(scope="module")
def scored(installed, tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    (folder / "in.tab").write_text("\n".join(ROWS) + "\n")
    options = ("--metrics", "length,exclamations", "--format", "qa", "--engine", "noted", "--proxy.model", tiny_model)
    many = ("--shard-rows", 2, "--max-reject-fraction", 1)
    run(installed, folder, *command("score", "in.tab", "--output", "scored", *options, *many))
    return folder


def run(environment, folder, *arguments):
    done = subprocess.run(
        [*map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_metric_a_format_a_reader_and_an_engine_of_others_score_a_file(scored, installed):
    table = read_data(scored / "scored")
    assert table["response_exclamations"].to_pylist() == [1, 0, 3, 2]
    assert [turns[0]["content"] for turns in table["messages"].to_pylist()] == ["Hi?", "Why?", "How?", "And?"]
    assert [reject["reason"] for reject in read_rejects(scored / "scored")] == ["1 fields, where the header names 3"]
    assert (scored / "noted.txt").read_text() == "3 shards"
    assert "whole" in run(installed, scored, *command("verify", "scored"))


def test_the_fingerprint_says_whose_metric_it_is(scored):
    identity = read_manifest(scored / "scored").identity
    assert canonical_json({"plugin": ORIGIN}) in canonical_json(identity)
    assert identity["reading"]["format"] == {"name": "qa", **ORIGIN}
    assert identity["reading"]["readers"] == {"tab": {"name": "TAB", **ORIGIN}}
    column = score_columns(pq.read_schema(next((scored / "scored" / "data").iterdir())))["response_exclamations"]
    assert (column.metric, column.version, column.params["plugin"], column.hard) == ("exclamations", 1, ORIGIN, "high")


def test_a_curriculum_of_others_orders_the_table(scored, installed):
    options = ("--curriculum", "zigzag", "--curriculum.by", "response_exclamations", "--budget.samples", 4)
    program = [sys.executable, "-P", "-m", "curricle.train.cli", "plan"]
    run(installed, scored, *program, "--data", "scored", "--output", "plan", *options, "--batch.size", 2)
    assert pq.read_table(scored / "plan" / "plan.parquet")["row"].to_pylist() == [1, 2, 0, 3]


def test_the_guide_shows_its_entry_points():
    shown = tomllib.loads(block("docs/extend.md", "entry-points")[1])["project"]["entry-points"]
    project = tomllib.loads((REPOSITORY / "tests" / "plugin" / "pyproject.toml").read_text())["project"]
    assert shown == project["entry-points"]


def test_without_the_package_its_names_are_unknown(scored):
    done = subprocess.run(
        command("score", "in.tab", "--output", "other", "--metrics", "exclamations"),
        cwd=scored,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "files that end in .tab are not read" in done.stderr
