"""The files of tests/data/formats: each record becomes what stands beside it, written by hand."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from curricle.curate import read
from curricle.schemas.common.errors import UsageError

FOLDER = Path(__file__).parents[1] / "data" / "formats"
FILES = sorted(path for path in FOLDER.iterdir() if ".expected" not in path.name and path.suffix != ".md")

Rows = list[dict[str, Any]]


def expected_of(path: Path) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{path.name.split('.')[0]}.expected.json").read_text("utf-8")))


def rows_of(examples: pa.Table, rejects: pa.Table) -> Rows:
    """What was read, in the order of the records, as the files of expectations write it."""
    rows: dict[int, Rows] = {}
    for example in examples.to_pylist():
        messages = [[turn["role"], turn["content"]] for turn in example["messages"]]
        beside = {"extra": example["extra"] and json.loads(example["extra"]), "notes": example["notes"]}
        row = {"messages": messages, **{name: value for name, value in beside.items() if value}}
        rows.setdefault(example["source_position"], []).append(row)
    for reject in rejects.to_pylist():
        rows[reject["source_position"]] = [{"reject": reject["reason"]}]
    return [row for _, some in sorted(rows.items()) for row in some]


def check(actual: Rows, expected: Rows) -> None:
    assert len(actual) == len(expected)
    for row, wanted in zip(actual, expected, strict=True):
        if "reject" not in wanted or not str(row.get("reject")).startswith(wanted["reject"]):
            assert row == wanted


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_shape_becomes_what_was_written_by_hand(path: Path) -> None:
    expected = expected_of(path)
    check(rows_of(*read(path, **expected["options"])), expected["rows"])


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".jsonl"], ids=lambda path: path.name)
def test_objects_in_parquet_become_the_same(path: Path, tmp_path: Path) -> None:
    expected = expected_of(path)
    for line, wanted in zip(path.read_text("utf-8").splitlines(), expected["rows"], strict=True):
        record = json.loads(line)
        if isinstance(record, dict):
            try:
                table = pa.Table.from_pylist([record])
            except pa.ArrowInvalid:  # of one column there is one type
                continue
            pq.write_table(table, tmp_path / "a.parquet")
            try:
                check(rows_of(*read(tmp_path / "a.parquet", **expected["options"])), [wanted])
            except UsageError as error:  # no record of the file is known
                assert "no known format" in str(error) and "no known format" in wanted["reject"]


def written(record: Any, path: Path) -> bool:
    """Whether a record could be written as one of a file of this kind."""
    if path.suffix == ".json":
        path.write_text(json.dumps([record]))
    elif not isinstance(record, dict):
        return False
    elif path.suffix == ".csv":
        cells = [
            "" if each is None else each if isinstance(each, str) else json.dumps(each) for each in record.values()
        ]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([[*record], cells])
    else:
        try:
            feather.write_feather(pa.Table.from_pylist([record]), path, compression="uncompressed")
        except pa.ArrowInvalid:  # of one column there is one type
            return False
    return True


def is_read(path: Path, options: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the conversation is the one that is expected, or rejected if that is."""
    try:
        (row,) = rows_of(*read(path, **options))
    except UsageError:
        return "reject" in wanted
    return row.get("messages") == wanted.get("messages")


PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".jsonl"], ids=lambda path: path.name)
def test_the_page_says_in_which_files_each_shape_is_read(path: Path, tmp_path: Path) -> None:
    """The table of shapes and files: what it calls read is, of every record that such a file can hold."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith("|") and f"tests/data/formats/{path.name}" in line]
    *_, others, table = (cell.strip() for cell in line.strip("|").split("|"))
    expected = expected_of(path)
    for number, (text, wanted) in enumerate(zip(path.read_text("utf-8").splitlines(), expected["rows"], strict=True)):
        record = json.loads(text)
        for suffix in (".json", ".arrow", ".csv"):
            file = tmp_path / f"{number}{suffix}"
            if written(record, file):
                whole = is_read(file, expected["options"], wanted)
                flat = isinstance(record, dict) and all(isinstance(each, str) for each in record.values())
                if (others if suffix != ".csv" else table) == "yes" or flat:
                    assert whole, (suffix, text)
    if table != "yes":
        assert table == "of texts" and others == "yes"
