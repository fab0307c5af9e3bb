"""The reward model: the fit against scikit-learn's, the model against transformers, a kill against no kill."""

import json
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from kills import at_call
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import train.reward.run
from schemas.table import score_columns
from train.encoding import Encoder
from train.model import load_tokenizer
from train.reward.head import Accuracy, fit, held_out
from train.reward.pairs import read_pairs
from train.table import open_table

ROWS = 48


def test_the_fit_is_the_logistic_regression_of_the_differences():
    random = np.random.default_rng(0)
    differences = (random.standard_normal((200, 8)) + 0.3) * [1, 1, 1, 5, 1, 1, 100, 0]
    differences = differences.astype(np.float32)
    weight = fit(differences, 0.5)
    scale = np.sqrt((differences.astype(np.float64) ** 2).mean(0))[:7]
    signs = np.where(np.arange(200) % 2, 1, -1)  # which answer comes first changes nothing
    theirs = LogisticRegression(C=1 / (0.5 * 8), fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(differences[:, :7] / scale * signs[:, None], signs)
    assert weight[:7] * scale == pytest.approx(theirs.coef_[0], rel=1e-4)
    assert weight[7] == 0
    assert fit(differences[::-1].copy(), 0.5) == pytest.approx(weight, rel=1e-6)


def test_the_interval_is_wilsons():
    accuracy = Accuracy.of(np.array([1.0] * 9 + [-1.0]))
    assert (accuracy.share, accuracy.low, accuracy.high) == pytest.approx((0.9, 0.5958, 0.9821), abs=1e-4)
    assert Accuracy.of(np.zeros(4)).share == 0
    assert Accuracy.of(np.empty(0)) == (0, None, None, None)


def test_equal_ids_are_on_one_side_of_the_holdout():
    ids = np.random.default_rng(0).integers(0, 256, (50, 16), np.uint8)
    both = np.concatenate([ids, ids])
    held = held_out(both, 0.3, 1)
    assert held.sum() == 30 and (held[:50] == held[50:]).all()
    assert (held != held_out(both, 0.3, 2)).any() and not held_out(ids, 0.0, 1).any()


@pytest.fixture
def answers(table_file: Path, tmp_path: Path) -> Path:
    """The table with answers of another kind than the responses; one is the response, one is null, one is empty."""
    table = pq.read_table(table_file).slice(0, ROWS)
    responses = [turns[-1]["content"] for turns in table["messages"].to_pylist()]
    texts = [f"{row} no idea, " + "sorry " * (row % 5) for row in range(ROWS)]
    texts[:3] = [responses[0] + " ", None, ""]
    schema = table.schema.append(pa.field("generated", pa.string()))
    path = tmp_path / "answers.parquet"
    pq.write_table(pa.Table.from_arrays([*table.columns, pa.array(texts)], schema=schema), path, row_group_size=20)
    return path


@pytest.fixture
def fit_reward(answers: Path, tiny_model: Path, tmp_path: Path, train_in_fork):
    def run(output: str, *more: str, patch=lambda: None, code: int = 0):
        def patched() -> None:
            train.reward.run.CHUNK = 16
            patch()

        arguments = ["reward", "--data", str(answers), "--model", str(tiny_model), "--output", str(tmp_path / output)]
        ended = train_in_fork([*arguments, "--max-length", "128", "--batch-tokens", "256", *more], patched)
        assert ended.code == code, ended.text
        return tmp_path / output, ended.text

    return run


def test_the_reward_prefers_the_responses_and_is_a_model_of_transformers(fit_reward, answers, tiny_model):
    place, said = fit_reward("run", "--holdout", "0.4")
    report = json.loads((place / "reward.json").read_bytes())
    held = report["accuracy"]["held_out"]
    assert held["pairs"] == round(0.4 * (ROWS - 2)) and held["low"] > 0.5
    assert report["left_out"] == {"there is no generated answer": 1, "the generated answer is the reference": 1}
    assert "the reference is ranked first in " in said
    written = {path.name for path in place.iterdir()} - {".lock"}
    assert written == {"model", "reward.json", "run.json", "scores.parquet"}

    scores = pq.read_table(place / "scores.parquet")
    columns = score_columns(scores.schema)
    assert columns["reward_gap"].hard == "high" and columns["reward_reference"].hard is None
    assert scores["example_id"].equals(pq.read_table(answers)["example_id"])
    reference, generated, gap = (scores[name].to_numpy() for name in columns)
    assert np.array_equal(gap, reference - generated, equal_nan=True)
    assert np.flatnonzero(np.isnan(gap)).tolist() == [1] and np.isfinite(reference).all()
    assert scores["notes"].to_pylist()[1] == [
        f"{name}: there is no generated answer" for name in ("reward_generated", "reward_gap")
    ]
    assert open_table(place / "scores.parquet").direction("reward_gap") == ("reward_gap", "high")

    model = AutoModelForSequenceClassification.from_pretrained(place / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    table = open_table(answers)
    examples = table.examples(np.arange(ROWS))
    pairs = read_pairs(
        Encoder(load_tokenizer(str(tiny_model)), "chat", 128), examples, table.texts("generated").to_pylist()
    )
    for side, rewards in (("reference", reference), ("generated", generated)):
        documents = [list(getattr(pair, side)) for pair in pairs if not isinstance(getattr(pair, side), str)]
        batch = tokenizer.pad({"input_ids": documents}, padding_side="right", return_tensors="pt")
        with torch.no_grad():
            theirs = model(**batch).logits[:, 0]
        assert theirs.numpy() == pytest.approx(rewards[~np.isnan(rewards)], abs=1e-5)


def test_a_fit_that_is_killed_goes_on_to_the_same_model(fit_reward):
    whole, _ = fit_reward("whole")
    kills = {
        "while states are written": lambda: at_call(train.reward.run, "save_file", 1),
        "before the model": lambda: at_call(train.reward.run, "save_reward_model", 0),
        "before it is said to be finished": lambda: at_call(train.reward.run, "write_whole", 0, after=True),
        "before it is tidied": lambda: at_call(train.reward.run.shutil, "rmtree", 0, lambda at: at.name == "states"),
    }
    for patch in kills.values():
        place, _ = fit_reward("killed", patch=patch, code=-signal.SIGKILL)
    assert "nothing left to do" in fit_reward("killed")[1]
    for name in ("scores.parquet", "reward.json", "model/model.safetensors", "model/config.json"):
        assert (place / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (place / "states").exists()
    assert "settings.l2: 1.0 there, 2.0 now" in fit_reward("killed", "--l2", "2", code=2)[1]


def test_two_processes_read_what_one_does(fit_reward, train_in_forks, answers, tiny_model, tmp_path):
    place, _ = fit_reward("one")
    arguments = ["reward", "--data", str(answers), "--model", str(tiny_model), "--output", str(tmp_path / "two")]
    ended = train_in_forks(2, [*arguments, "--max-length", "128", "--device.parallel", "fsdp"])
    assert [each.code for each in ended] == [0, 0], ended
    one, two = (pq.read_table(run / "scores.parquet")["reward_gap"] for run in (place, tmp_path / "two"))
    assert two.drop_null().to_pylist() == pytest.approx(one.drop_null().to_pylist(), abs=1e-4)


def test_what_cannot_be_learned_from_is_said(fit_reward, table_file):
    assert "there is no column 'generated'" in fit_reward("run", "--data", str(table_file), code=2)[1]
    assert "holds int32" in fit_reward("run", "--generated", "prompt_words", code=2)[1]
    table = pq.read_table(table_file)
    nothing = table.append_column("generated", pa.nulls(len(table), pa.string()))
    pq.write_table(nothing, table_file)
    text = fit_reward("run", "--data", str(table_file), code=1)[1]
    assert "no pair to learn from: 64 rows: there is no generated answer" in text and "Traceback" not in text
