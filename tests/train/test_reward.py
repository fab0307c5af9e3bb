"""The reward model: the fit against scikit-learn's, the model against transformers, a kill against no kill."""

import json
import signal
from pathlib import Path

import curricle.train.rewards.run
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from curricle.schemas.columns import REWARD_VERSION
from curricle.schemas.table import score_columns
from curricle.train.data.correlation import spearman
from curricle.train.data.encoding import ConversationTokenizer
from curricle.train.data.table import open_table
from curricle.train.model.load import load_model, load_tokenizer
from curricle.train.records.run_json import read_description
from curricle.train.rewards.head import Accuracy, cross_fit, fit, folds, rewards
from curricle.train.rewards.pairs import GeneratedAnswer, GeneratedAnswers, read_pairs
from kills import at_call
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForSequenceClassification, AutoTokenizer

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


def test_equal_ids_are_in_one_fold_whatever_is_learned_from():
    ids = np.random.default_rng(0).integers(0, 256, (50, 16), np.uint8)
    both, learned = np.concatenate([ids, ids]), np.arange(100) < 50
    fold = folds(both, learned, 1)
    assert (fold[:50] == fold[50:]).all() and np.bincount(fold).tolist() == [20] * 5
    assert np.array_equal(folds(both[::-1], learned, 1), fold[::-1])  # what is learned from, not where it stands
    assert (fold != folds(both, learned, 2)).any()
    few = folds(ids, np.arange(50) < 3, 1)
    assert sorted(few[:3].tolist()) == [0, 1, 2] and few.max() == 2
    assert not folds(ids, np.zeros(50, bool), 1).any()


def test_no_head_has_seen_what_it_scores():
    """Answers that are all alike but one: what that one says is known to every head but its own."""
    draw = np.random.default_rng(3)
    ids, learned = draw.integers(0, 256, (200, 16), np.uint8), np.arange(200) % 2 == 0
    differences = draw.standard_normal((200, 8)).astype(np.float32)
    fold = folds(ids, learned, 0)
    heads = cross_fit(differences, learned, fold, 1.0)
    for row in (0, 1, 50):
        changed = differences.copy()
        changed[row] *= -100
        same = (cross_fit(changed, learned, fold, 1.0) == heads).all(axis=1)
        assert same.all() if not learned[row] else same.tolist() == [index == fold[row] for index in range(5)]
    expected = [
        differences[row].astype(np.float64) @ fit(differences[learned & (fold != fold[row])], 1.0) for row in (4, 5)
    ]
    assert rewards(differences, heads, fold)[[4, 5]] == pytest.approx(expected)


def test_gaps_of_rows_that_were_learned_from_compare_with_the_others():
    """Without signal the rows that a head is fitted on are as hard as the others, and as often at either end."""
    draw = np.random.default_rng(5)
    ranks: dict[str, list[list[float]]] = {"cross-fitted": [], "one head": [], "mean of heads": []}
    for seed in range(20):
        ids = draw.integers(0, 256, (400, 16), np.uint8)
        differences, learned = draw.standard_normal((400, 32)).astype(np.float32), np.arange(400) < 80
        fold = folds(ids, learned, seed)
        heads = cross_fit(differences, learned, fold, 1.0)
        crossed = rewards(differences, heads, fold)
        gaps = {
            "cross-fitted": crossed,
            "one head": differences @ fit(differences[learned], 1.0),
            "mean of heads": np.where(learned, crossed, (differences @ heads.T).mean(axis=1)),
        }
        for name, values in gaps.items():
            index = values.argsort().argsort() / 399
            ends = np.mean(np.abs(index[learned] - 0.5) > 0.45)  # of a tenth of all rows
            ranks[name].append([index[learned].mean(), index[~learned].mean(), ends])
    means = {name: np.mean(each, axis=0) for name, each in ranks.items()}
    # 20 means of 80 ranks, each with a deviation of 0.29: 0.025 is more than three of theirs
    assert means["cross-fitted"] == pytest.approx([0.5, 0.5, 0.1], abs=0.025)
    assert means["one head"][0] > 0.57  # what it was before
    assert means["mean of heads"][2] > 0.11


def test_rank_correlations_are_spearmans():
    draw = np.random.default_rng(7)
    one, other = draw.integers(0, 9, 60).astype(float), draw.standard_normal(60)
    one[3], other[4] = np.nan, np.inf
    reference = np.isfinite(one) & np.isfinite(other)
    assert spearman(one, other) == pytest.approx(spearmanr(one[reference], other[reference]).statistic)
    assert spearman(one, one) == pytest.approx(1.0)
    assert spearman(one, one * 0) is None and spearman(one[:2], other[:2]) is None


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
            curricle.train.rewards.run.CHUNK = 16
            patch()

        arguments = ["reward", "--data", str(answers), "--model", str(tiny_model), "--output", str(tmp_path / output)]
        ended = train_in_fork([*arguments, "--max-length", "128", "--batch-tokens", "256", *more], patched)
        assert ended.code == code, ended.text
        return tmp_path / output, ended.text

    return run


def test_the_reward_prefers_the_responses_and_is_a_model_of_transformers(fit_reward, answers, tiny_model):
    directory, message = fit_reward("run")
    report = json.loads((directory / "reward.json").read_bytes())
    held = report["accuracy"]["held_out"]
    assert held["pairs"] == ROWS - 2 and held["low"] > 0.5
    assert held["share"] <= report["accuracy"]["learned_from"]["share"]
    assert report["left_out"] == {"there is no generated answer": 1, "the generated answer is the reference": 1}
    assert "the reference is ranked first in " in message
    written = {path.name for path in directory.iterdir()} - {".lock"}
    assert written == {"model", "reward.json", "run.json", "scores.parquet"}

    scores = pq.read_table(directory / "scores.parquet")
    columns = score_columns(scores.schema)
    assert columns["reward_gap"].version == read_description(directory)["identity"]["version"] == REWARD_VERSION
    assert columns["reward_gap"].hard == "high" and columns["reward_reference"].hard is None
    assert scores["example_id"].equals(pq.read_table(answers)["example_id"])
    reference, generated, gap = (scores[name].to_numpy() for name in columns)
    assert np.array_equal(gap, reference - generated, equal_nan=True)
    assert np.flatnonzero(np.isnan(gap)).tolist() == [1] and np.isfinite(reference).all()
    assert scores["notes"].to_pylist()[1] == [
        f"{name}: there is no generated answer" for name in ("reward_generated", "reward_gap")
    ]
    assert open_table(directory / "scores.parquet").direction("reward_gap") == ("reward_gap", "high")

    model = AutoModelForSequenceClassification.from_pretrained(directory / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory / "model")
    table = open_table(answers)
    examples = table.examples(np.arange(ROWS))
    options = GeneratedAnswers(table, "generated").of(np.arange(ROWS))
    pairs = read_pairs(ConversationTokenizer(load_tokenizer(str(tiny_model)), "chat", 128), examples, options)
    states = np.full((2, ROWS, model.config.hidden_size), np.nan, np.float32)
    for side, name in enumerate(("reference", "generated")):
        names = [row for row, pair in enumerate(pairs) if not isinstance(getattr(pair, name), str)]
        batch = tokenizer.pad(
            {"input_ids": [list(getattr(pairs[row], name)) for row in names]}, padding_side="right", return_tensors="pt"
        )
        with torch.no_grad():
            last = batch["attention_mask"].sum(1) - 1
            states[side, names] = model.model(**batch).last_hidden_state[torch.arange(len(names)), last].numpy()
            theirs = model(**batch).logits[:, 0].numpy()
        saved = states[side, names] @ model.score.weight.detach().numpy()[0]
        assert theirs == pytest.approx(saved, abs=1e-5)
    # the saved head is fitted on all pairs, and the columns are by heads that have not seen their rows
    good = np.array([pair.remarks.left_out is None for pair in pairs])
    differences = states[0] - states[1]
    assert model.score.weight.detach().numpy()[0] == pytest.approx(fit(differences[good], 1.0), rel=1e-2, abs=1e-3)
    fold = folds(table.ids, good, 0)
    expected = rewards(differences, cross_fit(differences, good, fold, 1.0), fold)
    assert gap == pytest.approx(expected, abs=1e-2, nan_ok=True)
    for index in range(5):  # the constant that a fit of differences leaves open
        others = good & (fold != index)
        assert abs((reference[others] + generated[others]).mean()) < np.std(reference)
    tokens = [
        [len(getattr(pair, name)) - pair.prompt for pair in pairs if pair.remarks.left_out is None]
        for name in ("reference", "generated")
    ]
    rho = report["spearman"]
    assert rho["response_tokens"] == pytest.approx(spearmanr(gap[good], tokens[0]).statistic, abs=0.05)
    assert rho.keys() == {"response_tokens", "generated_tokens", "response_tokens - generated_tokens", "loss"}
    assert f"response_tokens {rho['response_tokens']:.2f}" in message and "loss" in rho


def test_an_answer_that_was_cut_has_no_end_of_turn(answers, tiny_model, tmp_path):
    """The tokens of its text are all that is read; an answer that ended has the token that says so."""
    table = pq.read_table(answers)
    flags = pa.array([None if row == 1 else row % 2 == 0 for row in range(ROWS)], pa.bool_())
    path = tmp_path / "flagged.parquet"
    pq.write_table(table.append_column("generated_truncated", flags), path)
    tokenizer = load_tokenizer(str(tiny_model))
    encoder, flagged, plain = ConversationTokenizer(tokenizer, "chat", 128), open_table(path), open_table(answers)
    rows = np.arange(ROWS)
    expected, unknown = GeneratedAnswers(flagged, "generated"), GeneratedAnswers(plain, "generated")
    assert (
        expected.remark is None
        and "no column generated_truncated: every answer is read as one that has" in unknown.remark
    )
    pairs = read_pairs(encoder, plain.examples(rows), expected.of(rows))
    ended = read_pairs(encoder, plain.examples(rows), unknown.of(rows))
    (stop,) = encoder.stops(load_model(str(tiny_model), "sdpa").config)
    for row, (pair, whole) in enumerate(zip(pairs, ended, strict=True)):
        if row == 1:
            assert pair.generated == "there is no generated answer"
        elif row % 2 or whole.cut:
            assert pair == whole
        else:
            assert whole.generated[-1] == stop and pair.generated == whole.generated[:-1]
            assert pair.reference == whole.reference and pair.reference[-1] == stop
    assert expected.of(np.array([3, 0])) == [
        GeneratedAnswer(table["generated"][row].as_py(), row == 0) for row in (3, 0)
    ]


def test_a_fit_that_is_killed_goes_on_to_the_same_model(fit_reward):
    whole, _ = fit_reward("whole")
    kills = {
        "while states are written": lambda: at_call(curricle.train.rewards.run, "save_file", 1),
        "before the model": lambda: at_call(curricle.train.rewards.run, "save_reward_model", 0),
        "before it is said to be finished": lambda: at_call(curricle.train.rewards.run, "write_whole", 0, after=True),
        "before it is tidied": lambda: at_call(
            curricle.train.rewards.run.shutil, "rmtree", 0, lambda at: at.name == "states"
        ),
    }
    for patch in kills.values():
        path, _ = fit_reward("killed", patch=patch, code=-signal.SIGKILL)
    assert "nothing left to do" in fit_reward("killed")[1]
    for name in ("scores.parquet", "reward.json", "model/model.safetensors", "model/config.json"):
        assert (path / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (path / "states").exists()
    assert "settings.l2: 1.0 there, 2.0 now" in fit_reward("killed", "--l2", "2", code=2)[1]


def test_two_processes_read_what_one_does(fit_reward, train_in_forks, answers, tiny_model, tmp_path):
    path, _ = fit_reward("one")
    arguments = ["reward", "--data", str(answers), "--model", str(tiny_model), "--output", str(tmp_path / "two")]
    ended = train_in_forks(2, [*arguments, "--max-length", "128", "--device.parallel", "fsdp"])
    assert [each.code for each in ended] == [0, 0], ended
    one, two = (pq.read_table(run / "scores.parquet")["reward_gap"] for run in (path, tmp_path / "two"))
    assert two.drop_null().to_pylist() == pytest.approx(one.drop_null().to_pylist(), abs=1e-4)


def test_what_cannot_be_learned_from_is_said(fit_reward, table_file):
    assert "there is no column 'generated'" in fit_reward("run", "--data", str(table_file), code=2)[1]
    assert "holds int32" in fit_reward("run", "--generated", "prompt_words", code=2)[1]
    table = pq.read_table(table_file)
    nothing = table.append_column("generated", pa.nulls(len(table), pa.string()))
    pq.write_table(nothing, table_file)
    text = fit_reward("run", "--data", str(table_file), code=1)[1]
    assert "no pair to learn from: 64 rows: there is no generated answer" in text and "Traceback" not in text
