"""Columns that are added to a finished table."""

import json
from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from curricle.pipelines.commands.score import score
from curricle.pipelines.scoring.rescore import scored_rows, table_scoring
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.pipelines.tables.extend import Addition, extend, extending
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import ScoreColumn
from curricle.schemas.common.errors import UsageError
from curricle.schemas.fingerprint import example_id
from curricle.schemas.manifest import Provenance, read_manifest
from running import curricle, read_data, read_rejects, write_jsonl

LENGTHS = ("prompt_words", "response_words")


@pytest.fixture(scope="module")
def table(tmp_path_factory, alpaca_rows):
    folder = tmp_path_factory.mktemp("base")
    records = [*alpaca_rows(200), {"messages": [{"role": "user", "content": "no answer"}]}]
    records.append({"prompt": "a", "completion": "b", "tags": ["é", 1.5, {"x": None}], "id": 2**70})
    write_jsonl(folder / "in.jsonl", records)
    curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", cwd=folder)
    return TableReader(str(folder / "out"))


def run(table: TableReader, output, recipe: dict, **options) -> bool:
    """Add the lengths, under other names, by a scoring job over the table."""
    directory = OutputDirectory(str(output))
    with extending(table, str(output), recipe, options.pop("overwrite", False), ("longer",)) as held:
        if held is None:
            return False
        score(table_scoring(table, directory, metrics=("length",), shard_rows=64))
        column = ScoreColumn("longer", pa.int32(), "words", "words of the response", "high").of_metric("longer", 1, {})

        def rows():
            for piece in scored_rows(directory, LENGTHS):
                for start in range(0, piece.num_rows, 77):
                    part = piece.slice(start, 77)
                    yield part.select(["example_id", "notes"]).append_column("longer", part["response_words"])

        extend(table, directory, held, Addition([column], rows), table.manifest.provenance or Provenance())
    return True


def test_a_table_with_a_column_more(table, tmp_path):
    assert run(table, tmp_path / "more", {"made": "lengths"})
    assert "whole" in curricle("verify", tmp_path / "more")
    before, after = read_data(table.files.root), read_data(tmp_path / "more")
    assert after.drop(["longer", "notes"]).equals(before.drop(["notes"]))
    curricle("score", table.files.root.parent / "in.jsonl", "--output", tmp_path / "again", "--metrics", "length")
    assert after["longer"].equals(read_data(tmp_path / "again")["response_words"])
    assert read_rejects(tmp_path / "more") == read_rejects(table.files.root) != []
    one, other = read_manifest(table.files.root), read_manifest(tmp_path / "more")
    assert other.total == one.total and other.sources == one.sources and other.fingerprint != one.fingerprint
    assert other.extended_from.fingerprint == one.fingerprint
    assert {**other.columns, "longer": None} == {**one.columns, "longer": None} != one.columns
    assert not (tmp_path / "more" / "_progress" / "scores").exists()
    assert (tmp_path / "more" / "report.html").exists()
    assert not run(table, tmp_path / "more", {"made": "lengths"})


def test_another_recipe_is_refused_and_overwrites_only_when_told(table, tmp_path):
    run(table, tmp_path / "more", {"made": "lengths"})
    with pytest.raises(UsageError, match="made"):
        run(table, tmp_path / "more", {"made": "otherwise"})
    assert run(table, tmp_path / "more", {"made": "otherwise"}, overwrite=True)
    with pytest.raises(UsageError, match="has a column 'longer' already"):
        run(TableReader(str(tmp_path / "more")), tmp_path / "twice", {"made": "lengths"})


def test_a_selection_with_a_column_more_is_not_checked_as_the_selection(table, tmp_path):
    curricle("select", table.path, "--output", tmp_path / "some", "--take", "random", "--count", 20)
    run(TableReader(str(tmp_path / "some")), tmp_path / "more", {"made": "lengths"})
    assert "20 selected" in curricle("verify", tmp_path / "more")
    assert "added after its rows were selected" in curricle("select", "--check", tmp_path / "more", code=2)


def test_scoring_a_table_gives_the_same_examples(table, tmp_path):
    """The table is a format of its own: messages and other fields as they stand, scores left behind."""
    curricle("score", table.files.root / "data", "--output", tmp_path / "out", "--metrics", "mtld,length")
    before, after = read_data(table.files.root), read_data(tmp_path / "out")
    for name in ("example_id", "messages", "extra", "prompt_mtld", "response_mtld"):
        assert after[name].equals(before[name])
    assert pc.all(pc.greater(after["response_words"], -1)).as_py()


def test_a_table_whose_names_do_not_cover_inputs_stays_whole_and_keeps_them(tmp_path):
    records = [
        {"instruction": "Say it in French.", "input": options, "output": "Bonjour"} for options in ("Good day", "")
    ]
    write_jsonl(tmp_path / "in.jsonl", records)
    curricle("score", "in.jsonl", "--output", "out", "--metrics", "mtld", cwd=tmp_path)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (part,) = manifest["data"]
    path = tmp_path / "out" / part["path"]
    table = pq.read_table(path)
    dialogues = [[(turn["role"], turn["content"]) for turn in turns] for turns in table["messages"].to_pylist()]
    names = pa.array([example_id(turns) for turns in dialogues])
    assert [one == other for one, other in zip(names, table["example_id"], strict=True)] == [False, True]
    pq.write_table(table.set_column(0, table.schema.field("example_id"), names), path)
    part |= {"bytes": path.stat().st_size, "sha256": sha256(path.read_bytes()).hexdigest()}
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "out" / "_progress" / "finished.json").unlink()  # which knows the manifest as it was written
    assert "whole" in curricle("verify", tmp_path / "out")
    assert run(TableReader(str(tmp_path / "out")), tmp_path / "more", {"made": "lengths"})
    after = read_data(tmp_path / "more")
    assert after["example_id"].to_pylist() == names.to_pylist() and after["longer"].to_pylist() == [1, 1]
    assert "whole" in curricle("verify", tmp_path / "more")
