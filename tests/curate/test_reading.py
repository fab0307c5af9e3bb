"""`curate.read`: the same examples and rejects as the command, in this process."""

import inspect
import json
import random
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.curate import Read
from curricle.curate import read as read_inputs
from curricle.curate.reading import MAX_EXPANSION, MAX_RECORD_BYTES, READ, ROWS
from curricle.pipelines.settings.score import ScoreSettings
from curricle.schemas.common.errors import UsageError
from curricle.schemas.table import EXAMPLES, REJECTS
from running import curricle, read_data, read_rejects, write_jsonl

GOOD = {"instruction": "Add 2 and 2.", "output": "4"}
BAD = {"messages": [{"role": "user", "content": "no answer"}]}
NOTED = {"prompt": "a", "completion": "b", "tool_choice": "auto"}


@pytest.fixture
def folder(tmp_path, repository_sample):
    """Files of three kinds, a hidden one, and one of a kind that is not read."""
    (tmp_path / "in").mkdir()
    draw = random.Random(0)
    records = [draw.choice([GOOD | {"id": row}, BAD, NOTED, {"text": row}]) for row in range(200)]
    write_jsonl(tmp_path / "in" / "b.jsonl", [GOOD, *records])
    (tmp_path / "in" / "a.json").write_text(json.dumps([GOOD, 3, BAD]))
    (tmp_path / "in" / "_hidden.jsonl").write_text("{}")
    (tmp_path / "in" / "notes.txt").write_text("nothing")
    pq.write_table(pa.Table.from_pylist([GOOD, GOOD]), tmp_path / "in" / "c.parquet")
    (tmp_path / "in" / "sample.jsonl").write_bytes(repository_sample)
    return tmp_path


@pytest.fixture(scope="module")
def repository_sample(request) -> bytes:
    return (request.config.rootpath / "tests" / "data" / "sample.jsonl").read_bytes()


@pytest.mark.parametrize("pattern", ["in", "in/[a-z]*.json*", "in/b.jsonl"])
def test_the_same_rows_as_the_command(folder, pattern, caplog, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    curricle("score", pattern, "--output", "out", "--metrics", "mtld", "--max-reject-fraction", 1)
    caplog.clear()
    capsys.readouterr()
    examples, rejects = read_inputs(pattern)
    scored = read_data(folder / "out")
    assert examples.select(EXAMPLES.names).equals(scored.select(EXAMPLES.names))
    assert rejects.to_pylist() == read_rejects(folder / "out") != []
    assert (examples.schema, rejects.schema) == (READ, REJECTS)
    assert ("notes.txt" in caplog.text + capsys.readouterr().err) is (pattern == "in"), "what is left out is said"


def test_what_programs_hand_over_is_read_as_files_give_it():
    """Arrays, numbers of NumPy, text that is none, and nesting without end: rows or rejects, in their order."""
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    endless: list[object] = []
    endless.append(endless)
    records = [
        {"messages": np.array(turns, object), "score": np.float32(0.5), "n": np.int64(3), "v": np.zeros(2)},
        {"prompt": "a\ud800", "completion": "b"},
        GOOD | {"x": endless},
        GOOD | {"ok": np.bool_(True), "none": np.array([])},
    ]
    examples, rejects = read_inputs(records)
    plain, _ = read_inputs([{"messages": turns, "score": 0.5, "n": 3, "v": [0, 0]}, GOOD | {"ok": True, "none": []}])
    assert examples.drop("source_position").equals(plain.drop("source_position"))
    assert json.loads(examples["extra"][0].as_py()) == {"n": 3, "score": 0.5, "v": [0, 0]}
    assert rejects["source_position"].to_pylist() == [1, 2]
    assert rejects["reason"].to_pylist() == ["a lone surrogate, \\ud800, is no character", "nested too deeply"]
    assert rejects["raw"][0].as_py() == '{"prompt": "a\\ud800", "completion": "b"}'


def test_arrow_in_every_form_is_read_alike(tmp_path):
    table = pa.table({"prompt": ["a", "b"], "completion": ["c", "d"]})
    maps = pa.array([[("k", 1)], [("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int32()))
    table = table.append_column("map", maps)
    pq.write_table(table, tmp_path / "in.parquet")
    want, _ = read_inputs(tmp_path / "in.parquet")
    (note,) = want["notes"][1].as_py()
    assert "the field 'map' cannot be read and is left out" in note
    categories = table.set_column(0, "prompt", table["prompt"].dictionary_encode())
    for each in (table, table.combine_chunks().to_batches()[0], table.to_reader(max_chunksize=1), categories):
        examples, rejects = read_inputs(each)
        assert examples.drop("source").equals(want.drop("source")) and not len(rejects)


@pytest.mark.parametrize(
    ("inputs", "words"), [(GOOD, "list"), (b"in.jsonl", "inputs are bytes"), (["in.jsonl", GOOD], "a dict among paths")]
)
def test_what_is_neither_paths_nor_records_is_refused_in_words(inputs, words):
    with pytest.raises(TypeError, match=words):
        read_inputs(inputs)


def test_files_and_records_and_arrow_are_read_alike(tmp_path):
    records = [GOOD, NOTED, BAD, GOOD | {"input": "numbers"}]
    path = write_jsonl(tmp_path / "in.jsonl", records)
    of_file = read_inputs(path)
    table = pa.Table.from_pylist(
        records, pa.schema([(name, pa.string()) for name in ("instruction", "input", "output")])
    )
    for options in (records, iter(records), map(MappingProxyType, records)):
        of_records = read_inputs(options, source=path.name)
        assert of_records.examples.equals(of_file.examples)
        assert of_records.rejects.drop(["raw"]).equals(of_file.rejects.drop(["raw"]))
    for rows in (table, table.to_batches()[0]):
        examples, rejects = read_inputs(rows)
        assert examples["source_position"].to_pylist() == [0, 3] and rejects["source_position"].to_pylist() == [1, 2]
        assert examples["source"].unique().to_pylist() == ["records"]
        both = of_file.examples.filter(pa.array([True, False, True]))
        assert examples["example_id"].equals(both["example_id"])


def test_several_files_in_the_order_of_their_names(folder):
    paths = [folder / "in" / name for name in ("b.jsonl", "a.json")]
    examples, rejects = read_inputs(paths)
    apart = [read_inputs(path) for path in paths]
    assert examples.equals(pa.concat_tables(each.examples for each in apart))
    assert rejects.equals(pa.concat_tables(each.rejects for each in apart))
    assert read_inputs(str(folder / "in" / "sample.jsonl")).examples.num_rows > 70


def test_what_is_worth_knowing_of_a_row_stands_in_its_notes():
    examples, _ = read_inputs([GOOD, {"prompt": "a", "completion": "b", "images": []}, NOTED])
    assert examples["notes"].null_count == sum(notes is None for notes in examples["notes"].to_pylist())
    assert examples.schema == READ


def test_more_records_than_are_held_at_once_keep_their_numbers():
    examples, rejects = read_inputs(
        {"prompt": str(row), "completion": "b"} if row % 7 else row for row in range(ROWS + 9)
    )
    positions = sorted(examples["source_position"].to_pylist() + rejects["source_position"].to_pylist())
    assert positions == list(range(ROWS + 9)) and rejects["source_position"].to_pylist()[:3] == [0, 7, 14]


def test_what_counts_progress_hears_of_every_record(folder):
    class Counter:
        rows = rejects = 0

        def add(self, *, rows: int = 0, rejects: int = 0, tokens: int = 0, in_hand: float = 0.0) -> None:
            self.rows += rows
            self.rejects += rejects

    counter = Counter()
    examples, rejects = read_inputs(folder / "in", progress=counter)
    assert (counter.rows, counter.rejects) == (examples.num_rows + rejects.num_rows, rejects.num_rows)


def test_named_fields_and_formats():
    record = {"question_text": "q", "reply": "r"}
    examples, _ = read_inputs([record], prompt_field="question_text", response_field="reply")
    assert [turn["content"] for turn in examples["messages"][0].as_py()] == ["q", "r"]
    assert read_inputs([record], format="pairs").examples.num_rows == 0
    with pytest.raises(UsageError, match="alpaca"):
        read_inputs([record], format="alpacca")


def test_what_is_no_input(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_inputs(tmp_path / "absent.jsonl")
    with pytest.raises(UsageError, match="curricle score"):
        read_inputs("s3://bucket/in.jsonl")
    assert read_inputs([]) == Read(READ.empty_table(), REJECTS.empty_table())


def test_defaults_are_those_of_the_command():
    settings = ScoreSettings(inputs=("a",), output="b")
    options = inspect.signature(read_inputs).parameters
    assert options["max_record_bytes"].default == settings.max_record_bytes == MAX_RECORD_BYTES
    assert options["max_expansion"].default == settings.max_expansion == MAX_EXPANSION
