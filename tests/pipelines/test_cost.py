"""Shards are cut by what their rows are expected to cost, and the table does not show it."""

import io
import json
from functools import partial

import pytest
from curricle.curate.readers import survey
from curricle.pipelines.scoring import cost
from curricle.pipelines.scoring.inputs import find_inputs
from curricle.pipelines.scoring.job import make_job
from curricle.pipelines.scoring.plan import read_plan, survey_inputs
from curricle.pipelines.settings.score import ScoreSettings
from curricle.pipelines.tables.directory import OutputDirectory
from curricle.schemas.chat.modelsize import count_parameters
from curricle.schemas.common.errors import UsageError, UserError
from hypothesis import given
from hypothesis import strategies as st
from running import curricle, signed, write_jsonl

PARAMETERS = 134_515_008
"""Of SmolLM2 135M: its embedding is its output head too."""


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    monkeypatch.setattr(cost, "_NVIDIA", "/nowhere")


def job_of(*metrics, **settings):
    return make_job(ScoreSettings(inputs=("in.jsonl",), output="out", metrics=metrics, **settings))


def test_the_size_of_a_model_is_what_its_safetensors_hold(smollm2, tmp_path):
    assert count_parameters(smollm2.directory) == PARAMETERS
    header = json.dumps({"a": {"dtype": "F32", "shape": [3, 4]}, "b": {"dtype": "F32", "shape": []}}).encode()
    for name in ("x-1.safetensors", "x-2.safetensors", "other.safetensors"):
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header)
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors", "c": "x-1.safetensors"}})
    )
    assert count_parameters(tmp_path) == 2 * 13
    (tmp_path / "x-2.safetensors").write_bytes(b"\xff" * 8)
    with pytest.raises(UsageError, match=r"x-2\.safetensors"):
        count_parameters(tmp_path)


def test_a_record_costs_two_operations_a_parameter_for_each_token_and_pass(smollm2):
    tokens, minute = 400 / 4 + 30, 3e11 * 60
    for metrics, passes in ((["loss"], 1), (["loss", "ifd"], 1.5), (["mtld", "length"], 0)):
        assert cost.shard_share(job_of(*metrics))(400) == pytest.approx(2 * PARAMETERS * tokens * passes / minute)
    assert cost.shard_share(job_of("loss"))(10**6) == pytest.approx(
        2 * PARAMETERS * 2048 / minute
    )  # the rest is cut off
    answers = 65 + 6 * 256
    assert cost.shard_share(job_of("generated"))(400) == pytest.approx(2 * PARAMETERS * answers / minute)


def test_what_runs_elsewhere_is_reckoned_to_run_on_a_gpu(smollm2):
    here, there = job_of("loss"), job_of("loss", engine="dask")
    assert cost.shard_share(here)(400) > 100 * cost.shard_share(there)(400)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 30))
def test_a_slice_ends_when_its_shares_are_one(lengths, rows):
    data = b"".join(json.dumps({"prompt": "a", "completion": "b" * length}).encode() + b"\n" for length in lengths)
    opener = partial(io.BytesIO, data)
    sizes = [len(line) for line in data.splitlines()]
    slices = survey(opener, "a.jsonl", rows, 1 << 20, 500, share=lambda size: size / 128).slices
    assert [part.first_record for part in slices] == [sum(p.records for p in slices[:i]) for i in range(len(slices))]
    for part in slices:
        inside = sizes[part.first_record : part.first_record + part.records]
        assert len(inside) <= rows and sum(inside[:-1]) < 128
        last = part.first_record + part.records == len(sizes)
        assert last or len(inside) == rows or sum(inside) >= 128


def test_the_table_is_the_same_whatever_a_shard_is_expected_to_cost(alpaca_rows, tmp_path, monkeypatch, smollm2):
    write_jsonl(tmp_path / "in.jsonl", alpaca_rows(100))
    arguments = ("score", "in.jsonl", "--metrics", "length,mtld", "--output")
    assert "100 records in 1 file, 1 shard\n" in curricle(*arguments, "whole", cwd=tmp_path)
    monkeypatch.setattr(cost, "flops_of", lambda job, tokens: 1e12 * tokens)
    message = curricle(*arguments, "out", cwd=tmp_path)
    assert (
        "1 shard\n" not in message and " shards\n" in message and signed(tmp_path / "out") == signed(tmp_path / "whole")
    )
    assert "100 records in 1 file, 10 shards" in curricle(*arguments, "rows", "--shard-rows", 10, cwd=tmp_path)


def test_a_job_keeps_the_shards_that_it_began_with(alpaca_rows, tmp_path, monkeypatch):
    from curricle.pipelines import engines

    write_jsonl(tmp_path / "in.jsonl", alpaca_rows(20))
    arguments = ("score", "in.jsonl", "--output", "out", "--metrics", "mtld")

    def fail(work):
        raise UserError("the engine is not there", remedy="start it")

    with monkeypatch.context() as patched:
        patched.setattr(engines, "run", fail)
        curricle(*arguments, "--shard-rows", 7, cwd=tmp_path, code=1)
    assert "records in" not in curricle(*arguments, cwd=tmp_path)
    slices = read_plan(OutputDirectory(str(tmp_path / "out"))).sources[0].slices
    assert [part.records for part in slices] == [7, 7, 6]


def test_a_larger_record_takes_a_larger_share(smollm2, tmp_path):
    rows = [{"instruction": "Say it.", "output": "word " * (20 if row % 2 else 2000)} for row in range(200)]
    write_jsonl(tmp_path / "in.jsonl", rows)
    job = job_of("loss", "ifd")
    share = cost.shard_share(job)
    (file,) = find_inputs([str(tmp_path / "in.jsonl")])[0]
    (source,) = survey_inputs([file], job.format, job.readers, *cost.survey_limits(job))
    lines = (tmp_path / "in.jsonl").read_bytes().splitlines(keepends=True)
    costs = [
        sum(share(len(line)) for line in lines[part.first_record : part.first_record + part.records])
        for part in source.slices
    ]
    assert len(costs) > 2 and all(1 <= each < 1 + share(10**5) for each in costs[:-1])
