"""The examples of docs/trainers.md run, on a CPU as it says, and the page names every argument that is refused."""

import inspect
import re

import pytest
from curricle.train.integrations import arguments
from pages import REPOSITORY, block

PAGE = "docs/trainers.md"


@pytest.mark.parametrize(
    ("example", "last"), [("trainers-static", "sft/checkpoint-4"), ("trainers-adaptive", "campus/checkpoint-12")]
)
def test_the_examples_train(example, last, tiny_model, write_signed, fork_process, wait_process, tmp_path, monkeypatch):
    write_signed(tmp_path / "scored" / "part.parquet", rows=16)
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "name").symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    _, lines = block(PAGE, example)
    lines = re.sub(r'SFTConfig\(("\w+"), ', r"SFTConfig(\1, use_cpu=True, bf16=False, ", lines)  # as the page says
    pid = fork_process(lambda: exec(lines, {}) or 0, tmp_path / "log")  # accelerate keeps a state in its process
    ended = wait_process(pid, tmp_path / "log")
    assert ended.code == 0, ended.text
    assert (tmp_path / last / "trainer_state.json").exists()


def test_every_refused_argument_stands_in_the_guide():
    page = (REPOSITORY / PAGE).read_text("utf-8")
    source = inspect.getsource(arguments)
    names = {*re.findall(r'Fault\(\s*f?"(?:accelerator_config: )?(\w+)', source)} - {"nn"}
    assert len(names) > 8 and not [name for name in names if f"`{name}" not in page and name != "parallelism_config"]
