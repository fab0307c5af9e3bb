"""JSON objects that hold the records of a file are read like arrays of them, or refused in words."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from curricle.curate import read as read_inputs
from curricle.curate.readers import read, survey
from curricle.schemas.common.errors import UsageError

ROWS = [{"prompt": f"Hello {index}", "completion": "Hi {[,]}\n" * (index % 3), "n": [index]} for index in range(40)]
LONG = "x" * 700_000
BY_KEY = {f"id-{index}": row for index, row in enumerate(ROWS)}
HOLDERS: dict[str, Any] = {
    "list": {"data": ROWS},
    "list behind": {"version": "1.1", "about": {"of": [1, {"a": "]}"}]}, "data": ROWS, "license": None},
    "long before": {"about": [LONG[:200_000]], "train": ROWS},
    "long behind": {"rows": ROWS, "about": LONG},
    "by key": BY_KEY,
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("rows_per_slice", [3, 1000])
def test_records_of_an_object_are_those_of_the_list(
    holder: str, indent: int | None, rows_per_slice: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_text("\ufeff " + json.dumps(HOLDERS[holder], indent=indent))
    surveyed = survey(lambda: path.open("rb"), path.name, rows_per_slice, 1 << 20, 500)
    slices = read(lambda: path.open("rb"), path.name, surveyed.slices, 1 << 20)
    records = [record for _, part in slices for record in part]
    assert [record.position for record in records] == [*range(40)]
    key = (lambda index: {"key": f"id-{index}"}) if holder == "by key" else lambda _: {}
    assert [record.value for record in records] == [{**row, **key(index)} for index, row in enumerate(ROWS)]


def test_it_is_said_that_what_stands_beside_the_list_is_not_read(tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO", "curricle")
    for name in ("list behind", "by key"):
        (tmp_path / "a.json").write_text(json.dumps(HOLDERS[name]))
        read_inputs(tmp_path / "a.json")
    (message,) = [message for message in caplog.messages if "beside" in message]
    assert message.endswith("a.json: the records are those of its list 'data'; what stands beside it is not read")


def test_compressed_and_as_a_job_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(HOLDERS["list behind"]).encode()))
    examples, rejects = read_inputs(tmp_path / "a.json.gz")
    assert examples.num_rows == 40 and rejects.num_rows == 0


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"train": ROWS, "test": ROWS}, "has records in 'train' and in 'test'"),
        ({"test": ROWS, "train": ROWS}, "has records in 'train' and in 'test'"),
        ({"data": ROWS, "about": LONG * 2}, "more than 1,048,576 bytes follow"),
        ({"results": ROWS}, "no known format; found 'results'"),
    ],
)
def test_what_an_object_does_not_say_is_not_guessed(content: Any, found: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=found):
        read_inputs(tmp_path / "a.json")


@pytest.mark.parametrize("behind", [b"", b',"a":1', b',"a":NaN}', b',"a":1}}', b',"data":[{}]}', b"]}"])
def test_an_object_that_does_not_end_is_refused(behind: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"data": ' + json.dumps(ROWS).encode() + behind)
    with pytest.raises(UsageError):
        read_inputs(tmp_path / "a.json")


def test_objects_in_lines_stay_lines(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}
    for lines in ([chat], [chat, chat], [{"data": ["Hello", "Hi"]}] * 2, [{**ROWS[0], "data": ROWS}] * 2):
        (tmp_path / "a.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert read_inputs(tmp_path / "a.json").examples.num_rows == len(lines)
