"""Which files a job reads."""

import os
import sys
from pathlib import Path

import pytest
from running import write_jsonl

from pipelines.inputs import find_inputs, is_seekable
from schemas.errors import UsageError

GOOD = {"prompt": "a", "completion": "b"}
NAMES = (
    "one.jsonl",
    "deep/two.jsonl",
    "_SUCCESS/three.jsonl",
    "deep/.four.jsonl",
    ".five/six.jsonl",
    "out/data/7.jsonl",
)


def names(pattern: object, output: object) -> list[str]:
    files, ignored = find_inputs([str(pattern)], str(output))
    assert ignored == []
    return [file.name.removeprefix(str(pattern)).strip("/") for file in files]


def test_hidden_names_in_a_folder_are_no_inputs(tmp_path: Path):
    root = tmp_path / "_mine"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(root / name, [GOOD])
    assert names(root, root / "out") == ["deep/two.jsonl", "one.jsonl"]
    assert len(find_inputs([str(root / "_SUCCESS" / "three.jsonl")], "out")[0]) == 1, "what is named is read"


def test_hidden_names_in_a_bucket_are_no_inputs(s3: str):
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for name in NAMES:
        client.put_object(Bucket=s3, Key=f"_mine/{name}", Body=b"{}")
    for pattern in (f"s3://{s3}/_mine", f"s3://{s3}/_mine/"):
        assert names(pattern, f"s3://{s3}/_mine/out") == ["deep/two.jsonl", "one.jsonl"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there, and any bytes")
def test_a_name_that_is_no_text_is_refused(tmp_path: Path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jsonl", "w") as file:
        file.write("{}")
    with pytest.raises(UsageError, match="not UTF-8") as error:
        find_inputs([str(tmp_path)], "out")
    str(error.value).encode()
    assert "caf\\udce9.jsonl" in str(error.value)


@pytest.mark.parametrize(
    ("name", "free"), [("a.jsonl", True), ("a.json", True), ("a.jsonl.gz", False), ("a.parquet", False)]
)
def test_where_reading_can_start_anywhere(name: str, free: bool):
    assert is_seekable(name) is free
