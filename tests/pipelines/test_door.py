"""The door for Python: a function beside each command, with its options."""

import inspect
import subprocess
import sys
from dataclasses import fields
from typing import get_type_hints

import pytest
from curricle import pipelines
from curricle.curate.proxy.settings import ProxySettings
from curricle.pipelines import cli, functions
from curricle.pipelines.settings.score import ScoreSettings
from curricle.schemas.common.errors import UsageError, UserError
from running import curricle, signed, write_jsonl
from table_maker import make_table, random_scores

ROWS = [{"instruction": f"Add {row} and 2.", "output": f"{row + 2}, of course. " * (row % 3 + 1)} for row in range(30)]
OPTIONS = {
    "score": (functions.ScoreOptions, functions.ScoreSettings, ("inputs", "output")),
    "select": (functions.SelectOptions, functions.SelectSettings, ("table", "output", "check")),
    "cluster": (functions.ClusterOptions, functions.ClusterSettings, ("table", "output")),
    "contamination": (
        functions.ContaminationOptions,
        functions.ContaminationSettings,
        ("table", "output", "against"),
    ),
    "add": (functions.AddOptions, functions.AddSettings, ("table", "metrics", "output")),
    "lp": (functions.LpOptions, functions.LpSettings, ("table", "output")),
    "reward": (functions.RewardOptions, functions.RewardSettings, ("table", "output")),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("door")
    write_jsonl(folder / "in.jsonl", ROWS)
    pipelines.score(folder / "in.jsonl", folder / "scored", metrics=["mtld"], shard_rows=7)
    return folder / "scored"


def test_there_is_a_function_beside_each_command():
    commands = {*cli.COMMANDS} - {
        "workers",
        "view",
        "export",
    }  # two serve until they are told to end, one is train.export
    assert commands <= {*pipelines.__all__}
    for name in pipelines.__all__:
        assert inspect.getdoc(getattr(pipelines, name)), name


@pytest.mark.parametrize("name", OPTIONS)
def test_keywords_are_the_options_of_the_command(name):
    options, settings, positional = OPTIONS[name]
    names = {item.name for item in fields(settings)} - {*positional, "log_format"}
    assert {*get_type_hints(options)} == names
    assert {*inspect.signature(getattr(functions, name)).parameters} == {*positional, "options"} - {"check"}


def test_a_score_by_function_is_that_of_the_command(table):
    arguments = ("score", table.parent / "in.jsonl", "--output", table.parent / "by-command", "--metrics", "mtld")
    curricle(*arguments, "--shard-rows", 7)
    assert signed(table) == signed(table.parent / "by-command")
    manifest = pipelines.score([table.parent / "in.jsonl"], table, metrics=("mtld",), shard_rows=7)
    assert manifest.total.scored == len(ROWS), "what is finished is not scored again"


def test_settings_are_given_as_objects_mappings_or_names():
    for proxy in ("org/name", {"model": "org/name"}, ProxySettings(model="org/name")):
        settings = functions._settings(ScoreSettings, "score", inputs="a", output="b", proxy=proxy, embedding="proxy")
        assert (settings.proxy.model, settings.embedding.model, settings.inputs) == ("org/name", "proxy", ("a",))


def test_a_selection_its_check_and_its_recount(table, tmp_path):
    chosen = pipelines.select(table, tmp_path / "some", take="hard", by="response_mtld", count=10)
    assert (chosen.total.scored, chosen.total.left_out) == (10, 20)
    assert pipelines.check_selection(tmp_path / "some") == []
    assert pipelines.verify(tmp_path / "some").faults == []
    part = next((tmp_path / "some" / "data").iterdir())
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    assert pipelines.verify(tmp_path / "some").faults


def test_a_report_and_a_status(table):
    assert pipelines.report(table) == str(table / "report.html")
    assert "finished, 30 records" in pipelines.status(table)[0]


def test_clusters_and_a_transfer(tmp_path):
    for name, seed in (("one", 0), ("two", 1)):
        make_table(tmp_path / name, random_scores(40, seed), rows=40)
    compared = pipelines.transfer([tmp_path / "one", tmp_path / "two"], tmp_path / "out", columns=["loss"])
    assert [(each.one, each.other, each.column.name) for each in compared] == [("one", "two", "loss")]
    assert (tmp_path / "out" / "transfer.html").exists()


def test_refusals_are_exceptions_that_say_what_to_do(table, tmp_path):
    with pytest.raises(UsageError, match=r"pipelines\.score: unknown option 'metric'"):
        pipelines.score("in.jsonl", tmp_path / "out", metric=["loss"])  # type: ignore[call-arg]
    with pytest.raises(UserError, match="there is no manifest"):
        pipelines.verify(tmp_path)
    with pytest.raises(UsageError, match="max-length is 0"):
        pipelines.score("in.jsonl", tmp_path / "out", proxy={"max_length": 0})
    assert not (tmp_path / "out").exists()


def test_the_package_is_imported_without_beam_or_torch():
    code = (
        "import sys; from curricle import curate, pipelines; pipelines.verify; pipelines.score; curate.read\n"
        "print(*{'apache_beam', 'torch', 'transformers', 'polars'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
