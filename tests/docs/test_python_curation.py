"""The curation's part of docs/python.md: what stands there runs, in an environment without Beam where it needs none."""

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that
from environments import make_environment, run
from pages import block
from running import write_jsonl

PAGE = "docs/python.md"
ROWS = [
    {"instruction": "Name a colour.", "output": "Red."},
    {"instruction": "Add 2 and 2.", "input": "", "output": "The sum is 4."},
    {"output": "no question"},
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "alpaca.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_reading_and_scoring_run_where_beam_is_not_installed(folder, smollm2, tmp_path_factory):
    programs = make_environment(tmp_path_factory.mktemp("curate"), "curate", without=["apache-beam"])
    (folder / "smollm2-135m").symlink_to(smollm2.directory)  # what lies here under a name comes first
    ends = (
        "\nimport importlib.util; print(importlib.util.find_spec('apache_beam'), len(examples), len(rejects))"
        "\nprint([round(loss, 3) for loss in table['loss'].to_pylist()], table.schema.names[-1])"
    )
    done = run(programs / "python", "-c", block(PAGE, "curate")[1] + ends, cwd=folder)
    first, second = done.stdout.splitlines()
    assert first == "None 2 1" and second.endswith("] notes") and second.count(".") == 2


def test_a_transform_runs_in_a_pipeline_of_ones_own(folder, tiny_model):
    (folder / "org").mkdir()
    (folder / "org" / "name").symlink_to(tiny_model)
    names: dict = {}

    def right(scored):
        assert sorted(row["output"] for row in scored) == sorted(row["output"] for row in ROWS)
        assert sorted(row["loss"] is None for row in scored) == [False, False, True]

    with beam.Pipeline("FnApiRunner") as pipeline:
        names["conversations"] = pipeline | beam.Create(ROWS)
        exec(block(PAGE, "beam")[1], names)
        assert_that(names["scored"], right)


def test_functions_beside_commands_run_as_they_stand(folder, capsys):
    exec(block(PAGE, "functions")[1], {})
    assert "read=3 scored=2 rejected=1" in capsys.readouterr().out and (folder / "hard" / "manifest.json").exists()
