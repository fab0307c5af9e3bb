"""Rewards through the command: answers, fit and columns; interrupted and resumed; what it refuses."""

import json
import subprocess

import numpy as np
import pyarrow.compute as pc
import pytest
from curricle.pipelines.commands import reward
from curricle.pipelines.commands.status import Status, status_of
from curricle.pipelines.processes import trainer
from curricle.pipelines.tables.reader import TableReader
from curricle.schemas.columns import REWARD_VERSION
from running import curricle, read_data, signed, write_jsonl
from safetensors.numpy import load_file

ROWS = 40
COLUMNS = ("generated", "generated_tokens", "generated_truncated", "reward_reference", "reward_generated", "reward_gap")


@pytest.fixture(scope="module")
def table(tmp_path_factory, tiny_model, alpaca_rows):
    folder = tmp_path_factory.mktemp("reward")
    rows = alpaca_rows(ROWS)
    rows[5]["output"] = ""
    write_jsonl(folder / "in.jsonl", rows)
    curricle("score", "in.jsonl", "--output", "table", "--metrics", "length", "--proxy.model", tiny_model, cwd=folder)
    return folder / "table"


statuses: list[Status] = []


def interrupt(*_: object) -> None:
    statuses.append(status_of("out"))
    raise KeyboardInterrupt


@pytest.fixture
def arguments(table, tiny_model):
    options = {
        "--proxy.model": tiny_model,
        "--proxy.generation.max-new-tokens": 6,
        "--proxy.max-length": 256,
        "--shard-rows": 16,
    }
    return ["reward", table, *(part for pair in options.items() for part in pair)]


def test_a_table_with_rewards(table, arguments, tiny_model, tmp_path, monkeypatch):
    """Interrupted after the answers, and after the fit, it goes on from there. The trainer is a fresh interpreter."""
    monkeypatch.setattr(trainer, "subprocess", subprocess)
    scores, fitted = tmp_path / "out" / "_progress" / "scores", tmp_path / "out" / "reward_model"
    for name, stage in (("run_trainer", scores / "manifest.json"), ("extend", fitted / "reward.json")):
        with monkeypatch.context() as patch:
            patch.setattr(reward, name, interrupt)
            curricle(*arguments, "--output", "out", cwd=tmp_path, code=1)
        assert stage.exists()
    phases = [(each.state, each.phase, each.records, each.records_done) for each in statuses]
    fitting = f"fitting a reward on the states of {tiny_model}"
    assert phases == [("running", fitting, ROWS, ROWS)] * 2, "with the answers, of which it rests on all"
    assert status_of(str(tmp_path / "out")).state == "stopped"
    answers = read_data(scores)["generated"]
    result = {path: path.stat().st_mtime_ns for path in fitted.rglob("*") if path.is_file() and path.name != ".lock"}
    curricle(*arguments, "--output", "out", cwd=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in result} == result and not scores.exists()
    assert read_data(tmp_path / "out")["generated"].equals(answers)
    assert "whole" in curricle("verify", "out", cwd=tmp_path)
    before, after = read_data(table), read_data(tmp_path / "out")
    assert after.drop([*COLUMNS, "notes"]).equals(before.drop(["notes"]))
    assert [after[name].null_count for name in COLUMNS] == [1] * len(COLUMNS)
    assert pc.max(after["generated_tokens"]).as_py() == 6 and len(set(after["generated"].to_pylist())) > ROWS / 2
    assert after["notes"].to_pylist()[5][-4:] == [
        "generated: there is no response",
        *(f"{name}: there is no response" for name in COLUMNS[3:]),
    ]
    assert {"reward_gap: an answer is cut at 256 tokens"} >= {
        note for notes in after["notes"].to_pylist() for note in notes or [] if note.startswith("reward_gap: an")
    }
    truncated = [
        any(note.startswith("generated: cut after 6") for note in notes or []) for notes in after["notes"].to_pylist()
    ]
    assert [bool(flag) for flag in after["generated_truncated"].to_pylist()] == truncated and sum(truncated) > ROWS / 2
    columns = TableReader(str(tmp_path / "out")).scores
    assert columns["reward_gap"].hard == "high" and columns["generated"].metric == "generated"
    generation = {"max_new_tokens": 6, "temperature": 1.0, "seed": 0}
    assert columns["generated"].rests_on["generation"] == columns["reward_gap"].rests_on["generation"] == generation
    assert columns["reward_gap"].rests_on["generated"] == columns["generated"].fingerprint
    gap = signed(tmp_path / "out")["identity"]["columns"]["reward_gap"]["metrics"]["reward"]
    assert gap["version"] == REWARD_VERSION and gap["params"].items() >= {"seed": 0, "l2": 1.0}.items()
    assert (tmp_path / "out" / "reward_model" / "model" / "model.safetensors").exists()
    assert status_of(str(tmp_path / "out")) == Status(str(tmp_path / "out"), "done", ROWS, ROWS, 0, 0)
    assert "already there" in curricle(*arguments, "--output", "out", cwd=tmp_path)
    message = curricle(*arguments, "--proxy.generation.seed", 1, "--output", "out", cwd=tmp_path, code=2)
    assert "generation.seed" in message


def test_wrong_options_write_nothing(arguments, tmp_path):
    def refused(*more: object) -> str:
        return curricle(*arguments, "--output", "out", *more, cwd=tmp_path, code=2)

    assert "above 0" in refused("--reward.l2", 0)
    assert "max-new-tokens" in refused("--proxy.generation.max-new-tokens", 0)
    assert "ends a turn" in refused("--proxy.end-of-turn", "no")
    assert "local directory" in refused("--output", "s3://bucket/x")
    assert not (tmp_path / "out").exists()


def test_rows_of_another_set_are_scored_and_not_learned_from(table, arguments, tmp_path):
    """The head is that of the other set alone, and every row has its rewards."""
    curricle("select", table, "--output", "sets", "--split", "train=0.7,judging=0.3", cwd=tmp_path)
    options = ["--leave-out", "sets/judging", "--output", "out"]
    printed = curricle(*arguments, *options, cwd=tmp_path)
    alone = [tmp_path / "sets" / "train" if word == table else word for word in arguments]
    curricle(*alone, "--output", "alone", cwd=tmp_path)
    judged = {*read_data(tmp_path / "sets" / "judging")["example_id"].to_pylist()}
    rows = read_data(tmp_path / "out").to_pylist()
    left = [row for row in rows if row["example_id"] in judged]
    assert f"{len(left)} of {ROWS} rows are not learned from" in printed and len(left) > 5
    about, other = (
        json.loads((tmp_path / name / "reward_model" / "reward.json").read_text()) for name in ("out", "alone")
    )
    assert about["left_out"]["it stands in --leave-out"] == len(left)
    assert about["accuracy"]["learned_from"]["pairs"] == other["accuracy"]["learned_from"]["pairs"]
    heads = [load_file(tmp_path / name / "reward_model" / "model" / "model.safetensors") for name in ("out", "alone")]
    (head,) = (name for name in heads[0] if "score" in name)
    assert np.allclose(heads[0][head], heads[1][head], rtol=1e-3, atol=1e-5)
    gaps = {row["example_id"]: row["reward_gap"] for row in read_data(tmp_path / "alone").to_pylist()}
    same = [(row["reward_gap"], gaps[row["example_id"]]) for row in rows if row["example_id"] in gaps]
    assert all(one == other or one == pytest.approx(other, rel=1e-2, abs=1e-3) for one, other in same)
    note = "reward_gap: no head has learned from this row, which is left out"
    assert [note in (row["notes"] or []) for row in rows] == [
        row in left and row["reward_gap"] is not None for row in rows
    ]
    assert sum(row["reward_gap"] is not None for row in left) > 5
    assert "already there" in curricle(*arguments, *options, cwd=tmp_path)
    assert "left_out" in curricle(*arguments, "--output", "out", cwd=tmp_path, code=2)
