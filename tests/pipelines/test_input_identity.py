"""What a template writes by itself is part of an example's identity."""

from curricle.schemas.fingerprint import example_id
from running import curricle, read_data, write_jsonl

RECORDS = [
    {"instruction": "Say it in French.\n\nGood day", "output": "Bonjour"},
    {"instruction": "Say it in French.", "input": "Good day", "output": "Bonjour"},
    {"instruction": "Say it in French.", "input": "", "output": "Bonjour"},
]


def without_input(row: dict) -> str:
    return example_id((turn["role"], turn["content"]) for turn in row["messages"])


def test_two_renderings_have_two_identities(tiny_model, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", RECORDS)
    options = ("--metrics", "loss", "--proxy.model", tiny_model, "--proxy.template", "alpaca")
    curricle("score", "in.jsonl", "--output", "out", *options, cwd=tmp_path)
    one, other, plain = read_data(tmp_path / "out").to_pylist()
    assert one["messages"] == other["messages"] and one["loss"] != other["loss"]
    assert len({one["example_id"], other["example_id"], plain["example_id"]}) == 3
    assert [row["example_id"] == without_input(row) for row in (one, other, plain)] == [True, False, True]
    assert "whole" in curricle("verify", tmp_path / "out")
