"""Rows, batches and runs without a token that is scored: never a number, never a checkpoint."""

import json
from pathlib import Path

import curricle.train.data.documents
import curricle.train.training.loop
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curricle.schemas.fingerprint import example_id
from curricle.schemas.table import MESSAGES
from kills import at_call
from small_llama import TOKENS
from transformers import AutoTokenizer


def write(path: Path, conversations: list) -> Path:
    """A table that another tool wrote."""
    ids = [example_id((turn["role"], turn["content"]) for turn in each or ()) for each in conversations]
    columns = {
        "example_id": pa.array([f"{row:02x}{one[2:]}" for row, one in enumerate(ids)]),
        "messages": pa.array(conversations, MESSAGES),
        "extra": pa.array(["[1]"] + [None] * (len(ids) - 1), pa.string()),
    }
    pq.write_table(pa.table(columns), path)
    return path


def exchange(answer: str, role: str = "assistant") -> list[dict[str, str]]:
    return [{"role": "user", "content": "Q"}, {"role": role, "content": answer}]


def trained(run: Path) -> list[dict]:
    return [
        line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if line["kind"] == "train"
    ]


@pytest.fixture
def random(command):
    return lambda data, *more: command(
        "--data", str(data), "--curriculum", "random", "--batch.size", "1", "--checkpoint.every", "1", *more
    )


def test_a_table_without_an_answer_is_refused_before_anything_is_written(random, train_in_fork, tmp_path):
    data = write(tmp_path / "roles.parquet", [exchange("A", "human")] * 3)
    ended = train_in_fork(random(data))
    assert ended.code == 2 and "no row has a token to learn from" in ended.text, ended.text
    assert "no response token to learn from (3 visits)" in ended.text and not (tmp_path / "run").exists()
    ended = train_in_fork(random(write(tmp_path / "long.parquet", [exchange("A")] * 3), "--max-length", "4"))
    assert ended.code == 2 and "cut to --max-length" in ended.text


def test_a_run_that_scored_no_token_fails_without_a_checkpoint(random, train_in_fork, tmp_path, monkeypatch):
    """In a large table that is found out at the end."""
    monkeypatch.setattr(curricle.train.data.documents, "LOOKED_THROUGH", 32)
    data = write(tmp_path / "large.parquet", [exchange("A", "human")] * 40 + [exchange("A")])
    ended = train_in_fork(random(data, "--budget.steps", "3", "--seed", "1"))
    assert ended.code == 1 and "no token was scored in 3 steps" in ended.text, ended.text
    assert "step 1 is not saved" in ended.text and "0.0000" not in ended.text
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert [line["loss"] for line in trained(tmp_path / "run")] == [None] * 3
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"] is None


def test_a_batch_without_a_scored_token_has_no_loss(random, train_in_fork, tmp_path):
    data = write(
        tmp_path / "some.parquet", [exchange("A"), None, exchange("", "assistant"), [*exchange("B"), *exchange("C")]]
    )
    ended = train_in_fork(random(data))
    assert ended.code == 0, ended.text
    losses = [line["loss"] for line in trained(tmp_path / "run")]
    assert sorted(loss is None for loss in losses) == [False, False, True, True] and all(loss != 0 for loss in losses)
    assert "loss none" in ended.text and "not rendered: there is no conversation: 1 visit" in ended.text


def test_what_is_counted_at_the_end_is_of_the_whole_run(random, train_in_fork, tmp_path):
    """Not of its last piece, not of rows that were read ahead, asked about or held out."""
    rows = [exchange("A", "human") if index % 2 else exchange("A" * index, "assistant") for index in range(12)]
    data = write(tmp_path / "half.parquet", rows)
    arguments = random(data, "--batch.size", "2", "--checkpoint.every", "1", "--eval.rows", "2")
    whole = train_in_fork([*arguments, "--output", str(tmp_path / "whole")])
    assert whole.code == 0, whole.text
    for _ in range(3):
        assert train_in_fork(arguments, lambda: at_call(curricle.train.training.loop.Loop, "_step", 1)).code == -9
    ended = train_in_fork(arguments)
    (line,) = [line for line in whole.text.splitlines() if "no response token to learn from" in line]
    assert line in ended.text.splitlines(), ended.text
    held_out = sum("human" in str(exchange) for exchange in rows) - int(line.split(": ")[-1].split()[0])
    assert 0 <= held_out <= 2


@pytest.mark.parametrize("option", ["--eval.data", "--eval.tuning"])
def test_a_held_out_set_without_a_token_to_score_is_refused_before_training(option, random, train_in_fork, tmp_path):
    """Of several sets the mean would have no value either, and a comparison would be found out at its end."""
    good = write(tmp_path / "good.parquet", [exchange("C"), exchange("D")])
    bad = write(tmp_path / "bad.parquet", [exchange("E", "human"), None])
    data = write(tmp_path / "some.parquet", [exchange("A"), exchange("B")])
    ended = train_in_fork(random(data, option, f"good={good},bad={bad}"))
    assert ended.code == 2 and "no row of the held-out set 'bad' has a token to score" in ended.text, ended.text
    assert not (tmp_path / "run").exists()


def test_an_extra_that_is_no_json_object_is_no_input(random, train_in_fork, tmp_path):
    data = write(tmp_path / "extra.parquet", [exchange("A"), exchange("B")])
    assert train_in_fork(random(data, "--template", "alpaca")).code == 0


def test_a_row_with_a_token_beyond_the_embedding_is_visited_without_loss(random, train_in_fork, tmp_path, tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["<call>"])
    for path in tiny_model.iterdir():
        if "token" not in path.name:
            (tmp_path / "model").mkdir(exist_ok=True)
            (tmp_path / "model" / path.name).symlink_to(path)
    tokenizer.save_pretrained(tmp_path / "model")
    data = write(tmp_path / "calls.parquet", [exchange("<call>x"), exchange("A"), exchange("B")])
    ended = train_in_fork(random(data, "--model", str(tmp_path / "model")))
    assert ended.code == 0, ended.text
    assert f"not rendered: token {TOKENS} is beyond the model's {TOKENS} embeddings: 1 visit" in ended.text
    assert sum(line["loss"] is None for line in trained(tmp_path / "run")) == 1
