"""The metrics that docs/extend.md adds, each a file of its own: through a job, in one process and in several."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from curricle.schemas.table import score_columns
from pages import REPOSITORY, block
from running import curricle, in_process_of_its_own, read_data, signed, write_jsonl
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = REPOSITORY / "tests" / "data" / "v1" / "model"
FILES = ("metric", "hidden", "second")
LONG = "word " * 60
ROWS = [
    {"prompt": "Hi? ", "completion": "How? Why?", "rejected": "Go away."},
    {"prompt": "Name a river.", "completion": "The Po.", "rejected": "Paris?"},
    {"prompt": "Hi", "completion": "", "rejected": ""},
    {"prompt": "Alone", "completion": "There is no second answer."},
    {"prompt": LONG, "completion": "cut away", "rejected": "this too"},
    *({"prompt": f"Count to {n}", "completion": "1, 2, 3", "rejected": f"{n}, {n}"} for n in range(8)),
]
OPTIONS = ("--proxy.model", MODEL, "--proxy.max-length", 200, "--shard-rows", 5)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("metrics")
    for marker in FILES:
        name, code = block("docs/extend.md", marker)
        (directory / name).write_text(code, "utf-8")
    write_jsonl(directory / "in.jsonl", ROWS)
    return directory


@pytest.fixture(scope="module")
def arguments() -> tuple[object, ...]:
    names = ",".join(f"./{block('docs/extend.md', marker)[0]}:METRIC" for marker in FILES)
    return ("score", "in.jsonl", "--metrics", f"{names},mtld", *OPTIONS)


@pytest.fixture(scope="module")
def scored(files, arguments) -> Path:
    curricle(*arguments, "--output", "out", cwd=files)
    return files / "out"


def test_columns_and_what_they_say_of_themselves(scored):
    table = read_data(scored)
    assert table["response_questions"].to_pylist()[:3] == [2, 0, 0]
    columns = score_columns(table.schema)
    assert [*columns][:2] == ["prompt_mtld", "response_mtld"]  # ours first; loss comes along
    assert {"loss", "mean_state", "rejected_loss", "margin"} < {*columns}
    of = {"response_questions": "questions.py", "mean_state": "mean_state.py", "margin": "rejected.py"}
    assert {name: columns[name].params["plugin"]["file"] for name in of} == of
    assert [name for name in of if "rendering" in columns[name].params] == ["mean_state", "margin"]
    assert {column.metric for column in columns.values()} == {"mtld", "loss", "questions", "mean_state", "rejected"}
    identity = signed(scored)["identity"]["columns"]["margin"]
    assert identity["metrics"]["rejected"]["params"]["plugin"].keys() == {"file", "sha256"}
    assert {*identity} == {"column", "metrics", "rendering", "proxy"}


def test_mean_states_are_those_of_the_model(scored):
    tokenizer, model = AutoTokenizer.from_pretrained(MODEL), AutoModelForCausalLM.from_pretrained(MODEL).eval()
    for row, vector in zip(ROWS, read_data(scored)["mean_state"].to_pylist(), strict=True):
        turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids[:, :200]
        with torch.inference_mode():
            states = model.model(ids).last_hidden_state[0]
        # what the template writes after a response that ends in white space is no part of it
        expected = [states[: len(states) - cut].mean(0).numpy() for cut in range(3)]
        assert min(np.abs(each - np.array(vector)).max() for each in expected) < 1e-5


def test_a_second_response_has_the_loss_that_it_has_as_the_first(scored, files, tmp_path):
    both = [row for row in ROWS if "rejected" in row]
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": row["prompt"], "completion": row["rejected"]} for row in both])
    curricle("score", "in.jsonl", "--metrics", "loss", *OPTIONS, "--output", "alone", cwd=tmp_path)
    alone = read_data(tmp_path / "alone")["loss"].to_pylist()
    rows = read_data(scored).to_pylist()
    mine = [row for row in rows if row["extra"]]
    assert [row["rejected_loss"] for row in mine] == [None if loss is None else pytest.approx(loss) for loss in alone]
    assert sum(loss is not None for loss in alone) == len(both) - 2
    for row in rows:
        expected = [row[name] for name in ("rejected_loss", "loss") if row[name] is not None]
        assert row["margin"] == (pytest.approx(expected[0] - expected[1]) if len(expected) == 2 else None)
        assert (row["margin"] is None) == any(note.startswith("margin: ") for note in row["notes"] or [])
        assert row["margin"] is None or math.isfinite(row["margin"])
    assert "rejected_loss: there is no field rejected with a text" in rows[3]["notes"]


def test_workers_load_the_files_themselves(scored, files, arguments, tmp_path):
    in_process_of_its_own(*arguments, "--output", tmp_path / "out", "--workers", 2, cwd=files)
    assert signed(tmp_path / "out") == signed(scored)


def test_another_file_is_another_metric(scored, files, arguments):
    path = files / "questions.py"
    text = path.read_text("utf-8")
    try:
        path.write_text(text + "# changed\n", "utf-8")
        assert "questions.params.plugin.sha256" in curricle(*arguments, "--output", scored, cwd=files, code=2)
    finally:
        path.write_text(text, "utf-8")


def test_vllm_is_not_asked_for_hidden_states(files, tmp_path):
    options = ("--metrics", "./mean_state.py:METRIC", "--proxy.backend", "vllm", *OPTIONS)
    printed = curricle("score", "in.jsonl", *options, "--output", tmp_path / "out", cwd=files, code=2)
    assert "vLLM does not give hidden states" in printed and "--proxy.backend transformers" in printed
    assert not (tmp_path / "out").exists()
