"""The last lines of a job name what it has no value for."""

import re

from running import curricle, write_jsonl


def test_columns_without_values_are_named_with_the_reason(tiny_model, tmp_path):
    prompt = {"prompt": "long " * 100, "completion": "x"}
    write_jsonl(tmp_path / "in.jsonl", [prompt] * 2 + [{"prompt": "Q", "completion": ""}] * 3)
    options = ("--metrics", "loss,mtld", "--proxy.model", tiny_model, "--proxy.max-length", "60")
    printed = curricle("score", "in.jsonl", "--output", "out", *options, cwd=tmp_path)
    assert "5 records read = 5 scored + 0 rejected" in printed
    assert "loss: 5 of 5 null: the response is empty" in printed  # the most frequent reason
    assert "loss_tokens: 5 of 5 null: the response is empty" in printed
    assert not re.search(r"truncated: .* null", printed)
    again = curricle("score", "in.jsonl", "--output", "out", *options, cwd=tmp_path)
    assert "nothing to do" in again and "loss: 5 of 5 null" in again


def test_a_table_without_nulls_says_nothing(tiny_model, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": "A"}])
    options = ("--metrics", "loss", "--proxy.model", tiny_model)
    assert " null" not in curricle("score", "in.jsonl", "--output", "out", *options, cwd=tmp_path)


def test_a_table_without_rows_is_finished_and_said_to_have_none(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": 3, "completion": "x"}])
    printed = curricle("score", "in.jsonl", "--output", "out", "--metrics", "length", cwd=tmp_path, code=3)
    assert "1 records read = 0 scored + 1 rejected" in printed and "Traceback" not in printed
    assert printed.splitlines()[-2].startswith("rejects: out/rejects (1 of 1, most often: 'prompt' is a number")
    command = ["select", "out", "--take", "random", "--count", 1, "--output", "some"]
    assert "the table has no rows" in curricle(*command, cwd=tmp_path, code=2)
